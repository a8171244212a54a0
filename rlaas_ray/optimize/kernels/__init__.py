"""The arithmetic of the searches, a module an idea: arrays in, arrays out, no state, no loop over individuals."""
