"""A simulation of many servers, fed with the costs that bench.costs has measured: `make simulate`."""
