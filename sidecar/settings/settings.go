// Package settings fills a command's flags from its environment and from a
// configuration file, so that every setting has one name, one help text and
// one parser.
//
// A flag named data-dir of a command with the prefix REEVE_SIDECAR is also
// the variable REEVE_SIDECAR_DATA_DIR and the key dataDir of the file. What is
// given on the command line wins over the environment, the environment over
// the file, and the file over the default.
package settings

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// FileFlag is the name of the flag that names the configuration file. It has
// an environment variable like any other flag, but no key in the file.
const FileFlag = "config"

// ErrInvalid is wrapped by every error that a person can mend by changing a
// setting.
var ErrInvalid = errors.New("invalid setting")

// Fill sets every flag of flags that the command line left alone, from env, such
// as os.LookupEnv, and then from the file that FileFlag names. It reads the file once. An unknown
// key, a value that does not parse and a file that cannot be read are errors
// that name the key and the source.
func Fill(flags *pflag.FlagSet, prefix string, env func(name string) (string, bool)) error {
	given := make(map[string]bool)
	flags.Visit(func(f *pflag.Flag) { given[f.Name] = true })

	var err error
	flags.VisitAll(func(f *pflag.Flag) {
		value, ok := env(Variable(prefix, f.Name))
		if given[f.Name] || !ok || err != nil {
			return
		}
		given[f.Name] = true
		if failed := flags.Set(f.Name, value); failed != nil {
			err = fmt.Errorf("%w: environment variable %s: %w", ErrInvalid, Variable(prefix, f.Name), failed)
		}
	})
	if err != nil {
		return err
	}

	file := flags.Lookup(FileFlag)
	if file == nil || file.Value.String() == "" {
		return nil
	}
	return fillFromFile(flags, file.Value.String(), given)
}

func fillFromFile(flags *pflag.FlagSet, path string, given map[string]bool) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w: read configuration file: %w", ErrInvalid, err)
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict(data, &values); err != nil {
		return fmt.Errorf("%w: configuration file %s: %w", ErrInvalid, path, err)
	}

	names := make(map[string]string)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != FileFlag && f.Name != "help" {
			names[keyOf(f.Name)] = f.Name
		}
	})
	for _, key := range slices.Sorted(maps.Keys(values)) {
		name, ok := names[key]
		if !ok {
			return fmt.Errorf("%w: configuration file %s: unknown key %q; known keys are %s",
				ErrInvalid, path, key, strings.Join(slices.Sorted(maps.Keys(names)), ", "))
		}
		if given[name] {
			continue
		}
		text, err := scalar(values[key])
		if err == nil {
			err = flags.Set(name, text)
		}
		if err != nil {
			return fmt.Errorf("%w: configuration file %s: %s: %w", ErrInvalid, path, key, err)
		}
	}
	return nil
}

// scalar writes a file's value as the command line would have it.
func scalar(value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			text, ok := item.(string)
			if !ok {
				return "", fmt.Errorf("item %d is not a string", i)
			}
			parts[i] = text
		}
		return strings.Join(parts, ","), nil
	default:
		return "", errors.New("want a string, a number, true, false or a list of strings")
	}
}

// Variable is the name of the environment variable of a flag.
func Variable(prefix, flag string) string {
	return prefix + "_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// keyOf is the key of a flag in the configuration file.
func keyOf(flag string) string {
	words := strings.Split(flag, "-")
	for i, word := range words[1:] {
		if word != "" {
			words[i+1] = strings.ToUpper(word[:1]) + word[1:]
		}
	}
	return strings.Join(words, "")
}
