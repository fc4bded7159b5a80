"""What torch needs so that a module can be differentiated twice and left as it was."""
