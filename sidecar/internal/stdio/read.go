package stdio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"unicode"

	"github.com/reeve-authz/reeve/sidecar/internal/stdio/wire"
)

// read passes on what the process writes. A process that can be read no more is
// over.
func (p *process) read(ctx context.Context) {
	defer p.stop(errMute)
	reader := wire.NewReader(p.program.Out, p.l.cfg.MaxLine)
	for {
		line, err := reader.Next()
		var long *wire.TooLongError
		switch {
		case errors.As(err, &long):
			p.tooLong(ctx, long)
			continue
		case err != nil:
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
				p.l.log.WarnContext(ctx, "server not read", slog.String("server", p.server), slog.Any("error", err))
			}
			return
		}
		m, err := wire.Open(line)
		if err != nil {
			if len(strings.TrimSpace(string(line[:min(len(line), maxProblem)]))) > 0 {
				p.note(ctx, slog.LevelWarn, "what is no message", line)
			}
			continue
		}
		d := p.calls.route(&m)
		switch {
		case d.problem != "":
			p.note(ctx, slog.LevelDebug, d.problem, []byte(m.Method))
		case d.to != nil:
			d.to.put(d.entry, p.gone)
		}
	}
}

// tooLong answers, in the process's place, the call to which a line that is too
// long is the answer. If none can be made out, the process is ended: somebody
// would wait for it in vain.
func (p *process) tooLong(ctx context.Context, long *wire.TooLongError) {
	p.note(ctx, slog.LevelWarn, "a line that is too long", long.Head)
	id, ok := long.AnswerTo()
	if !ok {
		p.stop(errTooLong)
		return
	}
	text := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"error":{"code":-32603,"message":"The answer of the server is longer than %d bytes."}}`, id, long.Limit)
	m, err := wire.Open(text)
	if err != nil {
		return // not of what was just written
	}
	if d := p.calls.route(&m); d.to != nil {
		d.to.put(d.entry, p.gone)
	}
}

// hear logs what the process writes to its standard error.
func (p *process) hear(ctx context.Context) {
	reader := wire.NewReader(p.program.Problems, maxProblem)
	for {
		line, err := reader.Next()
		var long *wire.TooLongError
		if errors.As(err, &long) {
			line, err = long.Head, nil
		}
		if err != nil {
			return
		}
		p.note(ctx, slog.LevelDebug, "words for people", line)
	}
}

// note logs what a server wrote, if it has not written much of late.
func (p *process) note(ctx context.Context, level slog.Level, what string, text []byte) {
	if !p.l.log.Enabled(ctx, level) || !p.noise.Allow() {
		return
	}
	p.l.log.LogAttrs(ctx, level, "server wrote what is not passed on", slog.String("server", p.server), slog.Int("pid", p.pid()),
		slog.String("what", what), slog.String("text", printable(text)))
}

// printable is the beginning of text without anything that could do more to a
// terminal than be seen.
func printable(text []byte) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, string(text[:min(len(text), maxProblem)]))
}
