"""What a person looks at: a page of groups, findings and plots."""
