// Package e2e holds Reeve to its promises from outside: built binaries, real
// MCP clients and servers, real mTLS, real kills. `make e2e` builds and runs
// it; without the binaries only the tests that read the source run.
package e2e
