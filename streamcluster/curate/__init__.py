"""What a person should know about the pictures of a store before labelling them: which are there twice."""
