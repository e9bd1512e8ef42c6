package history

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// TestReduce: what is left of a history fits an order if and only if the whole
// does, of random histories of which many fit none.
func TestReduce(t *testing.T) {
	t.Parallel()
	fits, smaller, divided := 0, 0, 0
	const histories = 3000
	for seed := range uint64(histories) {
		ops := random(rand.New(rand.NewPCG(seed, 1)))
		whole := porcupine.CheckOperationsTimeout(model.ToModel(), ops, 10*time.Second)
		reduced := settled(ops)
		left := parts(reduced)
		if got := checkParts(left, 10*time.Second); got != whole {
			t.Fatalf("seed %d: %v in parts, %v whole:\n%v\n%v", seed, got, whole, ops, left)
		}
		if whole == porcupine.Ok {
			fits++
		}
		if unknown(reduced) < unknown(ops) {
			smaller++
		}
		if len(left) > 1 {
			divided++
		}
	}
	t.Logf("of %d histories %d fit, %d had fewer unknown, %d were divided", histories, fits, smaller, divided)
	if fits < histories/10 || fits > histories*19/20 || smaller < histories/10 || divided < histories/10 {
		t.Error("the histories are too much alike")
	}
}

func unknown(ops []porcupine.Operation) (n int) {
	for _, op := range ops {
		if op.Output.(Answer).Unknown {
			n++
		}
	}
	return n
}

// random makes requests of a register that is right, each done at some time
// between its beginning and its end, and then perhaps one answer wrong.
func random(rng *rand.Rand) (ops []porcupine.Operation) {
	held, known := "", []string{""}
	beside, unanswered := 1+rng.Int64N(30), 3+rng.IntN(20)
	for i := range 4 + rng.IntN(9) {
		// It is done at this time, and lasts longer: up to three are beside it.
		at := int64(10 * i)
		r := Request{Kind: Kind(rng.IntN(4))}
		if r.Kind == Create || r.Kind == Update {
			r.Value = fmt.Sprint(i)
		}
		if r.Kind == Update || r.Kind == Delete {
			r.Expect = known[len(known)-1]
			if rng.IntN(2) == 0 {
				r.Expect = known[rng.IntN(len(known))]
			}
			if r.Expect == "" {
				r = Request{Kind: Get}
			}
		}
		op := porcupine.Operation{ClientId: i, Input: r, Call: at - rng.Int64N(beside), Return: at + rng.Int64N(beside)}
		var a Answer
		done, possible := r.done(held)
		switch {
		case rng.IntN(unanswered) == 0:
			a.Unknown, op.Return = true, 1<<63-1
			if r.Kind != Get && possible && rng.IntN(2) == 0 {
				held = done
			}
		case possible && r.Kind == Get:
			a.Value = held
		case possible:
			held = done
		case held == "" && r.Kind != Create:
			a.Missing = true
		default:
			a.Refused = true
		}
		if held != known[len(known)-1] {
			known = append(known, held)
		}
		op.Output = a
		ops = append(ops, op)
	}
	if wrong := rng.IntN(2 * len(ops)); wrong < len(ops) {
		a := ops[wrong].Output.(Answer)
		switch r := ops[wrong].Input.(Request); {
		case a.Unknown:
		case r.Kind == Get:
			a = Answer{Value: known[rng.IntN(len(known))]}
			a.Missing = a.Value == ""
		default:
			a = Answer{Refused: !a.Refused}
		}
		ops[wrong].Output = a
	}
	return ops
}
