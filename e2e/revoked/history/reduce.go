package history

import (
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// settled returns operations that fit an order if and only if those given do,
// with fewer that are unknown. It rests on no value being stored twice:
//
//   - A write was done whose value somebody was told, or was answered to have
//     replaced: before that answer.
//   - A write was not done if another one was that expects the same value: a value
//     is there once, and replaced once.
func settled(operations []porcupine.Operation) []porcupine.Operation {
	all := slices.Clone(operations)
	for again := true; again; {
		again = false
		told := make(map[string]int64) // until when each value had been there
		replaced := make(map[string]bool)
		for _, op := range all {
			r, a := op.Input.(Request), op.Output.(Answer)
			if a.Unknown || a.Refused || a.Missing {
				continue
			}
			value := r.Expect
			if r.Kind == Get {
				value = a.Value
			} else if value != "" {
				replaced[value] = true
			}
			if until, ok := told[value]; !ok || op.Return < until {
				told[value] = op.Return
			}
		}
		all = slices.DeleteFunc(all, func(op porcupine.Operation) bool {
			r, a := op.Input.(Request), op.Output.(Answer)
			return a.Unknown && (r.Kind == Get || replaced[r.Expect])
		})
		for i, op := range all {
			until, ok := told[op.Input.(Request).Value]
			if op.Output.(Answer).Unknown && ok && op.Call < until && op.Input.(Request).Value != "" {
				all[i].Output, all[i].Return = Answer{}, until
				again = true
			}
		}
	}
	return all
}

// A part is a history that begins with a value.
type part struct {
	begins     string
	operations []porcupine.Operation
}

// parts divides operations after each answered one beside which there was no
// other: whatever the order of the rest, the value after it is known. All fit an
// order if and only if each part does.
func parts(operations []porcupine.Operation) []part {
	ops := slices.SortedFunc(slices.Values(operations), func(a, b porcupine.Operation) int {
		return int(min(1, max(-1, a.Call-b.Call)))
	})
	all, begins, from, until := []part(nil), "", 0, int64(-1)
	for i, op := range ops {
		alone := until < op.Call && (i+1 == len(ops) || op.Return < ops[i+1].Call)
		until = max(until, op.Return)
		if value, known := after(op); alone && known {
			all = append(all, part{begins: begins, operations: ops[from : i+1]})
			begins, from = value, i+1
		}
	}
	if from < len(ops) {
		all = append(all, part{begins: begins, operations: ops[from:]})
	}
	return all
}

// after is the value after an operation, where its answer tells.
func after(op porcupine.Operation) (value string, known bool) {
	r, a := op.Input.(Request), op.Output.(Answer)
	switch {
	case a.Unknown || a.Refused:
		return "", false
	case a.Missing:
		return "", true
	case r.Kind == Get:
		return a.Value, true
	default:
		return r.Value, true
	}
}

// checkParts checks all parts, for no longer than patience.
func checkParts(all []part, patience time.Duration) porcupine.CheckResult {
	deadline := time.Now().Add(patience)
	result := porcupine.Ok
	for _, p := range all {
		begun := model
		begun.Init = func() []any { return []any{p.begins} }
		// Without patience porcupine takes any time.
		left := max(time.Until(deadline), time.Millisecond)
		switch porcupine.CheckOperationsTimeout(begun.ToModel(), p.operations, left) {
		case porcupine.Illegal:
			return porcupine.Illegal
		case porcupine.Unknown:
			result = porcupine.Unknown
		case porcupine.Ok:
		}
	}
	return result
}
