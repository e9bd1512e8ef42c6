package condition

import "cel.dev/cel-go/interpreter"

func decorate(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) { return i, nil }
