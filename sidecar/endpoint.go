package sidecar

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

const (
	endpointName = "endpoint.json"
	secretName   = "local-secret"
	secretBytes  = 32
)

// Endpoint is how the agent reaches its sidecar.
type Endpoint struct {
	// URL is the scheme and address; an MCP server is at URL/mcp/{server}. For
	// a socket it is "unix:" and the path.
	URL string `json:"url"`
	// Secret goes in the header Authorization, as a bearer token. It is new at
	// every start of the sidecar.
	Secret string `json:"secret"`
}

// ReadEndpoint reads what the sidecar that runs with this state directory has
// left for its agent.
func ReadEndpoint(stateDir string) (Endpoint, error) {
	data, err := os.ReadFile(filepath.Join(stateDir, endpointName))
	if err != nil {
		return Endpoint{}, fmt.Errorf("read endpoint: %w", err)
	}
	var e Endpoint
	if err := json.Unmarshal(data, &e); err != nil {
		return Endpoint{}, fmt.Errorf("read endpoint %s: %w", endpointName, err)
	}
	return e, nil
}

// newEndpoint makes this start's secret and leaves it, with the address, in the
// state directory, readable by the sidecar's own user only.
func newEndpoint(stateDir string, addr net.Addr) (Endpoint, error) {
	secret := make([]byte, secretBytes)
	_, _ = rand.Read(secret) // documented never to fail
	e := Endpoint{URL: "http://" + addr.String(), Secret: hex.EncodeToString(secret)}
	if addr.Network() == "unix" {
		e.URL = "unix:" + addr.String()
	}
	data, err := json.Marshal(e) //nolint:gosec // the file is how the agent gets the secret
	if err != nil {
		return Endpoint{}, fmt.Errorf("write endpoint: %w", err)
	}
	if err := writeFile(filepath.Join(stateDir, endpointName), data); err != nil {
		return Endpoint{}, fmt.Errorf("write endpoint: %w", err)
	}
	if err := writeFile(secretFile(stateDir), []byte(e.Secret)); err != nil {
		return Endpoint{}, fmt.Errorf("write endpoint: %w", err)
	}
	return e, nil
}

func secretFile(stateDir string) string { return filepath.Join(stateDir, secretName) }

// writeFile replaces a file at once, so that a reader sees the old or the new.
func writeFile(path string, data []byte) error {
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// listen binds a loopback address or, for "unix:PATH", a socket that only this
// user can open. A door that others could reach is refused.
func listen(setting, address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if err := removeSocket(path); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrConfig, setting, err)
		}
		listener, err := net.Listen("unix", path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", setting, err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			_ = listener.Close() // the error before it is the one to tell
			return nil, fmt.Errorf("%s: %w", setting, err)
		}
		return listener, nil
	}
	resolved, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%w: %s %q is not host:port: %w", ErrConfig, setting, address, err)
	}
	if !resolved.IP.IsLoopback() {
		return nil, fmt.Errorf("%w: %s %q is not a loopback address: others could reach it", ErrConfig, setting, address)
	}
	listener, err := net.ListenTCP("tcp", resolved)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return listener, nil
}

// removeSocket removes what an earlier start left at path, if it is a socket.
func removeSocket(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and is not a socket", path)
	default:
		return os.Remove(path)
	}
}
