"""What every player contributes, estimated with standard errors."""
