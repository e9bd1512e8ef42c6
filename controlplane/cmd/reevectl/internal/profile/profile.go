// Package profile keeps contexts: which control planes there are, and as whom to
// speak to each; and it reaches them.
package profile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A Context is the control planes of one store and an administrator of them.
type Context struct {
	// Name is what people call the context.
	Name string `yaml:"name"`
	// Addresses are where the admin listeners of its control planes are.
	Addresses Addresses `yaml:"address"`
	// Certificate, Key and CA are PEM files: the administrator's certificate and
	// key, and the trust domain's roots. Relative paths are from the directory of
	// the file that the context is in.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	CA          string `yaml:"ca"`
	// Namespace is the namespace that is meant when none is given.
	Namespace string `yaml:"namespace,omitempty"`
}

// A File is a file of contexts.
type File struct {
	// Current is the name of the context that is used when none is given.
	Current string `yaml:"currentContext,omitempty"`
	// Contexts are in the order in which they were added.
	Contexts []Context `yaml:"contexts,omitempty"`

	path string
}

// DefaultPath is where the file is when nobody says.
func DefaultPath(getenv func(string) string) string {
	if path := getenv("REEVECTL_CONFIG"); path != "" {
		return path
	}
	base := getenv("XDG_CONFIG_HOME")
	if base == "" {
		base = filepath.Join(getenv("HOME"), ".config")
	}
	return filepath.Join(base, "reeve", "config.yaml")
}

// Load reads a file of contexts. One that is not there has none.
func Load(path string) (*File, error) {
	f := &File{path: path}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read contexts: %w", err)
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(f); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read contexts: %s is not a file of contexts%s: "+
			"give --config with context.yaml in the control plane's bootstrap directory, or one that reevectl context add wrote", path, where(err))
	}
	return f, nil
}

// OrLocal returns the file that a control plane of this user wrote at its first
// start into its default data directory, or f if there is none.
func (f *File) OrLocal(getenv func(string) string) (*File, error) {
	base := getenv("XDG_DATA_HOME")
	if base == "" {
		base = filepath.Join(getenv("HOME"), ".local", "share")
	}
	local, err := Load(filepath.Join(base, "reeve", "controlplane", "bootstrap", "context.yaml"))
	if err != nil || len(local.Contexts) == 0 {
		return f, err
	}
	return local, nil
}

var (
	yamlLine    = regexp.MustCompile(`line \d+`)
	yamlUnknown = regexp.MustCompile(`line \d+: field (\S+) not found`)
)

// where says where a file is not what it should be, as far as the parser tells:
// its own words are about Go.
func where(err error) string {
	switch text := err.Error(); {
	case yamlUnknown.MatchString(text):
		return fmt.Sprintf(" (%s: there is no field %q)", yamlLine.FindString(text), yamlUnknown.FindStringSubmatch(text)[1])
	case yamlLine.MatchString(text):
		return " (" + yamlLine.FindString(text) + ")"
	default:
		return ""
	}
}

// Save writes the file, whole or not at all, for its owner alone.
func (f *File) Save() error {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(f); err != nil {
		return fmt.Errorf("write contexts: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		return fmt.Errorf("write contexts: %w", err)
	}
	if err := WriteFile(f.path, b.Bytes()); err != nil {
		return fmt.Errorf("write contexts: %w", err)
	}
	return nil
}

// Put adds a context, or replaces the one of its name. Relative paths are taken
// from the working directory. The first context becomes the current one.
func (f *File) Put(c Context) error {
	for _, path := range []*string{&c.Certificate, &c.Key, &c.CA} {
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return fmt.Errorf("add context %q: %w", c.Name, err)
		}
		*path = absolute
	}
	at := slices.IndexFunc(f.Contexts, func(o Context) bool { return o.Name == c.Name })
	if at < 0 {
		f.Contexts = append(f.Contexts, c)
	} else {
		f.Contexts[at] = c
	}
	if f.Current == "" {
		f.Current = c.Name
	}
	return nil
}

// Pick returns the context of a name, or the current one if the name is empty,
// or else the only one there is. Its paths can be opened as they are.
func (f *File) Pick(name string) (Context, error) {
	if name == "" {
		name = f.Current
	}
	if name == "" && len(f.Contexts) == 1 {
		name = f.Contexts[0].Name
	}
	for _, c := range f.Contexts {
		if c.Name != name {
			continue
		}
		for _, path := range []*string{&c.Certificate, &c.Key, &c.CA} {
			if !filepath.IsAbs(*path) {
				*path = filepath.Join(filepath.Dir(f.path), *path)
			}
		}
		return c, nil
	}
	switch {
	case len(f.Contexts) == 0:
		return Context{}, fmt.Errorf("there is no context in %s: add one with reevectl context add, "+
			"or give --config with context.yaml in the control plane's bootstrap directory", f.path)
	case name == "":
		return Context{}, fmt.Errorf("no context is chosen: use reevectl context use, or --context with one of %s", f.names())
	default:
		return Context{}, fmt.Errorf("there is no context %q: use one of %s", name, f.names())
	}
}

func (f *File) names() string {
	var names []string
	for _, c := range f.Contexts {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}

// WriteFile writes a file, whole or not at all, for its owner alone.
func WriteFile(path string, data []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // made 0600
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) //nolint:errcheck // it is gone once it was renamed
	_, err = temporary.Write(data)
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
