"""What a person looks at: figures, and a page of groups, findings and plots."""
