"""The endpoints of localkube: objects, logs, exec, and the switches of faults. `server` puts them at their paths."""
