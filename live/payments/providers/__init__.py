"""The providers: one module or a few for each way in which money comes."""
