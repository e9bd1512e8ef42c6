package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"github.com/reeve-authz/reeve/sidecar"
)

// savedConfig is what enroll writes for run.
type savedConfig struct {
	ControlPlane  []string `json:"controlPlane"`
	EnrollAddress []string `json:"enrollAddress"`
	CADigest      string   `json:"caDigest"`
}

func writeConfig(cfg sidecar.Config) error {
	data, err := yaml.Marshal(savedConfig{
		ControlPlane: cfg.ControlPlane, EnrollAddress: cfg.EnrollAddress, CADigest: cfg.CADigest,
	})
	if err != nil {
		return fmt.Errorf("write configuration file: %w", err)
	}
	return os.WriteFile(filepath.Join(cfg.StateDir, configName), data, 0o600)
}

func printEndpoint(w io.Writer, output string, e sidecar.Endpoint) error {
	switch output {
	case "text":
		_, err := fmt.Fprintf(w, "URL:    %s/mcp/{server}\nHeader: Authorization: Bearer %s\n", e.URL, e.Secret)
		return err
	case "json":
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(map[string]any{
			"url":     e.URL,
			"headers": map[string]string{"Authorization": "Bearer " + e.Secret},
		})
	default:
		return fmt.Errorf("%w: --output must be text or json", errUsage)
	}
}
