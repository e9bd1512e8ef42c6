package grant

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

const (
	maxCommand  = 64
	maxVariable = 64
	maxArgument = 4096
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

// checkStdio reports what is wrong with how a server is started.
func checkStdio(m *grantv1.Server_Stdio) error {
	if len(m.ProtoReflect().GetUnknown()) > 0 {
		return fmt.Errorf("stdio: %w: it has a field that this version does not know", ErrInvalid)
	}
	if n := len(m.GetCommand()); n == 0 || n > maxCommand || m.GetCommand()[0] == "" {
		return fmt.Errorf("stdio.command: %w: want a program and its arguments, at most %d in all", ErrInvalid, maxCommand)
	}
	for i, word := range m.GetCommand() {
		if problem := argumentProblem(word); problem != "" {
			return fmt.Errorf("stdio.command[%d]: %w: %s", i, ErrInvalid, problem)
		}
	}
	if len(m.GetEnv()) > maxVariable {
		return fmt.Errorf("stdio.env: %w: %d variables; at most %d are allowed", ErrInvalid, len(m.GetEnv()), maxVariable)
	}
	for _, name := range slices.Sorted(maps.Keys(m.GetEnv())) {
		problem := argumentProblem(m.GetEnv()[name])
		switch {
		case !variableName.MatchString(name):
			problem = "a variable's name has up to 128 of A-Z a-z 0-9 _ and does not begin with a digit"
		case strings.HasPrefix(name, "LD_") || strings.HasPrefix(name, "DYLD_"):
			problem = "it would have the loader put other code into the program; name the program that is to run"
		}
		if problem != "" {
			return fmt.Errorf("stdio.env[%q]: %w: %s", name, ErrInvalid, problem)
		}
	}
	if dir := m.GetWorkingDir(); dir != "" {
		problem := argumentProblem(dir)
		if !path.IsAbs(dir) {
			problem = "want an absolute path, or nothing for a new empty directory"
		}
		if problem != "" {
			return fmt.Errorf("stdio.working_dir: %w: %s", ErrInvalid, problem)
		}
	}
	return nil
}

// argumentProblem returns what keeps s from being passed to a program.
func argumentProblem(s string) string {
	switch {
	case len(s) > maxArgument:
		return fmt.Sprintf("at most %d bytes are allowed", maxArgument)
	case strings.IndexByte(s, 0) >= 0:
		return "it must not contain a NUL"
	}
	return ""
}
