cdef class CompiledRules:
    pass
