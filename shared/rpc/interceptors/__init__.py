"""What happens around every call, one concern to a module; `shared.rpc.server` orders them."""
