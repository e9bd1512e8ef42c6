package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
)

// program is a target over standard input and output.
type program struct {
	writing sync.Mutex
	in      io.Writer

	mu      sync.Mutex
	waiting map[int]chan []byte
	ended   chan struct{} // closed at the end of its output
}

// newProgram starts a program. The caller ends it, also after an error, unless
// there is no command.
func newProgram(ctx context.Context, name string, command []string) (*target, *exec.Cmd, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	p := &program{in: in, waiting: make(map[int]chan []byte), ended: make(chan struct{})}
	go p.read(out) // until the program ends
	if _, err := p.ask(ctx, 1, []byte(initialize)); err != nil {
		return nil, cmd, fmt.Errorf("%s: %w", name, err)
	}
	if err := p.write([]byte(initialized)); err != nil {
		return nil, cmd, fmt.Errorf("%s: %w", name, err)
	}
	return &target{name, "stdio-direct", func(ctx context.Context, id int) ([]byte, error) {
		return p.ask(ctx, id, fmt.Appendf(nil, call, id))
	}}, cmd, nil
}

// read hands out answers until the output ends.
func (p *program) read(out io.Reader) {
	defer close(p.ended)
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var m struct {
			ID int `json:"id"`
		}
		if json.Unmarshal(line, &m) != nil {
			continue
		}
		p.mu.Lock()
		answer := p.waiting[m.ID]
		delete(p.waiting, m.ID)
		p.mu.Unlock()
		if answer != nil {
			answer <- line
		}
	}
}

func (p *program) write(message []byte) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	_, err := p.in.Write(append(bytes.Clone(message), '\n'))
	return err
}

// ask sends the request id and returns its answer.
func (p *program) ask(ctx context.Context, id int, message []byte) ([]byte, error) {
	answer := make(chan []byte, 1)
	p.mu.Lock()
	p.waiting[id] = answer
	p.mu.Unlock()
	if err := p.write(message); err != nil {
		return nil, err
	}
	select {
	case line := <-answer:
		return line, nil
	case <-p.ended:
		return nil, errors.New("it has ended")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
