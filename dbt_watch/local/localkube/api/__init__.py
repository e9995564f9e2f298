"""The endpoints of localkube: objects, logs, exec. `server` puts them at their paths."""
