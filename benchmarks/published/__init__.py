"""Published analyses, each as the code that makes its numbers again with hierpool."""
