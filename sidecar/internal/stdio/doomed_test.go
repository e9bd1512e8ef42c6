package stdio_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

// doomedSidecar starts a server that heeds nothing, has it start others, says
// their numbers, and waits for its own end.
func doomedSidecar() {
	_ = os.Unsetenv(role)
	t := &doomed{}
	g := newRig(t, "script")
	s := g.begin()
	g.ask(s, "stubborn", "")
	text, _ := json.Marshal(g.family(s))
	fmt.Println(string(text))
	select {}
}

// A doomed is a test that nobody waits for.
type doomed struct{ testing.TB }

func (*doomed) Helper()                  {}
func (*doomed) Cleanup(func())           {}
func (*doomed) Context() context.Context { return context.Background() }
func (*doomed) Fatal(args ...any) {
	fmt.Println(args...)
	os.Exit(1)
}

func (d *doomed) Fatalf(format string, args ...any) { d.Fatal(fmt.Sprintf(format, args...)) }
