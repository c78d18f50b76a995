"""What an export does in a person's folder: names, the record of what was put there, the plan, and single files."""
