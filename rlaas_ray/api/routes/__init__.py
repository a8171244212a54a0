"""One router per noun; each only translates between documents and use cases."""
