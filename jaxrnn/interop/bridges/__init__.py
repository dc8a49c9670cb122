"""Models of jaxrnn as modules of other libraries; each file imports its library and is imported when it is used."""
