def register_hooks(host, config, slots, seed):
    return []
