package settings_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/reeve-authz/reeve/sidecar/settings"
)

type values struct {
	dir       string
	bound     time.Duration
	endpoints []string
	size      int64
}

func flagsFor(t *testing.T, v *values, args ...string) *pflag.FlagSet {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags.String(settings.FileFlag, "", "configuration file")
	flags.StringVar(&v.dir, "data-dir", "default", "")
	flags.DurationVar(&v.bound, "freshness-bound", time.Second, "")
	flags.StringSliceVar(&v.endpoints, "etcd-endpoints", nil, "")
	flags.Int64Var(&v.size, "spool-max-bytes", 1, "")
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return flags
}

func environment(pairs map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := pairs[name]
		return v, ok
	}
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	path := file(t, "dataDir: from-file\nfreshnessBound: 3s\netcdEndpoints: [a, b]\nspoolMaxBytes: 1073741824\n")
	var v values
	flags := flagsFor(t, &v, "--data-dir=from-flag", "--config="+path)
	err := settings.Fill(flags, "REEVE_TEST", environment(map[string]string{
		"REEVE_TEST_DATA_DIR":        "from-environment",
		"REEVE_TEST_FRESHNESS_BOUND": "2s",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if v.dir != "from-flag" {
		t.Errorf("data-dir = %q, want the command line's", v.dir)
	}
	if v.bound != 2*time.Second {
		t.Errorf("freshness-bound = %v, want the environment's", v.bound)
	}
	if strings.Join(v.endpoints, ",") != "a,b" || v.size != 1<<30 {
		t.Errorf("etcd-endpoints = %v, spool-max-bytes = %d, want the file's", v.endpoints, v.size)
	}
}

func TestErrorsNameTheSetting(t *testing.T) {
	for _, tc := range []struct {
		name, text, variable, value, want string
	}{
		{name: "unknown key", text: "dataDirr: x\n", want: `unknown key "dataDirr"; known keys are dataDir`},
		{name: "bad duration", text: "freshnessBound: soon\n", want: "freshnessBound"},
		{name: "a map", text: "dataDir: {a: b}\n", want: "dataDir: want a string"},
		{name: "key twice", text: "dataDir: a\ndataDir: b\n", want: "already set"},
		{name: "bad variable", variable: "REEVE_TEST_FRESHNESS_BOUND", value: "x", want: "REEVE_TEST_FRESHNESS_BOUND"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var v values
			flags := flagsFor(t, &v, "--config="+file(t, tc.text))
			err := settings.Fill(flags, "REEVE_TEST", environment(map[string]string{tc.variable: tc.value}))
			if !errors.Is(err, settings.ErrInvalid) || !strings.Contains(err.Error(), tc.want) || strings.Count(err.Error(), "invalid setting") != 1 {
				t.Errorf("Fill = %v, want one that says %q", err, tc.want)
			}
		})
	}
}

func TestMissingFile(t *testing.T) {
	var v values
	flags := flagsFor(t, &v, "--config=/nowhere/config.yaml")
	if err := settings.Fill(flags, "REEVE_TEST", environment(nil)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Fill = %v, want one that wraps os.ErrNotExist", err)
	}
}
