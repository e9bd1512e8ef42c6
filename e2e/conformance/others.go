package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/reeve-authz/reeve/e2e/stack"
)

// An other is a server of others and what must come of working with it under
// its grants.
type other struct {
	id      string
	command []string
	env     map[string]string
	grants  string // YAML
	steps   []step
}

// catalogueOthers adds the servers of others, pinned, with grants for a part of
// what they can do, in place of the one for everything.
func (s *stage) catalogueOthers(ctx context.Context) ([]other, error) {
	if _, err := s.stack.Reevectl(ctx, "revoke", "everything", "-n", stack.Namespace, "--wait"); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Join(s.cfg.dir, "others"))
	if err != nil {
		return nil, err
	}
	for path, text := range map[string]string{"files/public/note.txt": "words for everyone", "files/private/key.txt": "words for nobody"} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	others := []other{s.files(filepath.Join(dir, "files")), s.memory(filepath.Join(dir, "memory.json")), s.everything()}
	for _, o := range others {
		if err := s.catalogueOther(ctx, o); err != nil {
			return nil, fmt.Errorf("%s: %w", o.id, err)
		}
	}
	return others, nil
}

func (s *stage) catalogueOther(ctx context.Context, o other) error {
	server, err := json.Marshal(map[string]any{
		"kind": "Server", "name": "namespaces/" + stack.Namespace + "/servers/" + o.id,
		"stdio": map[string]any{"command": o.command, "env": o.env},
	})
	if err != nil {
		return err
	}
	if _, err := s.stack.ReevectlIn(ctx, bytes.NewReader(server), "apply", "-f", "-"); err != nil {
		return err
	}
	if _, err := s.stack.Reevectl(ctx, "tool", "import", o.id, "-n", stack.Namespace, "--launch", "--effect", "write", "--reach", "closed"); err != nil {
		return err
	}
	_, err = s.stack.ReevectlIn(ctx, bytes.NewReader([]byte(o.grants)), "apply", "-f", "-", "--wait")
	return err
}

// script is the program of an npm package with the server.
func (s *stage) script(name string) string {
	return filepath.Join(s.cfg.tools, "node_modules", "@modelcontextprotocol", name, "dist", "index.js")
}

func grantOf(name, condition string, targets ...string) string {
	text := fmt.Sprintf("---\nkind: Grant\nname: namespaces/%s/grants/%s\neffect: ALLOW\nsubjects:\n  agents: [%s]\n"+
		"expireTime: \"2035-01-01T00:00:00Z\"\n", stack.Namespace, name, stack.Agent)
	if condition != "" {
		text += "condition: '" + condition + "'\n"
	}
	text += "targets:\n"
	for _, t := range targets {
		text += "  - " + t + "\n"
	}
	return text
}

func (s *stage) files(dir string) other {
	read := func(path string) step {
		return call("read_text_file", map[string]any{"path": filepath.Join(dir, path)})
	}
	return other{
		id: "files", command: []string{s.node(), s.script("server-filesystem"), dir},
		grants: grantOf("read-public", `args.path.startsWith("`+dir+`/public/") && !args.path.contains("..")`, "tool: files/read_text_file") +
			grantOf("list-files", "", "tool: files/list_directory"),
		steps: []step{
			{Method: "tools/list", has: "read_text_file", lacks: "write_file"},
			read("public/note.txt").gives("words for everyone"),
			read("private/key.txt").isDenied("not with these arguments"),
			call("read_text_file", map[string]any{"path": dir + "/public/../private/key.txt"}).isDenied("not with these arguments"),
			call("read_text_file", map[string]any{"PATH": dir + "/private/key.txt", "path": dir + "/public/note.txt"}).isDenied(""),
			call("list_directory", map[string]any{"path": dir}).gives("private"),
			call("write_file", map[string]any{"path": dir + "/public/note.txt", "content": "overwritten"}).isDenied("write_file"),
			read("public/note.txt").gives("words for everyone"),
		},
	}
}

func (s *stage) memory(file string) other {
	entities := map[string]any{"entities": []any{map[string]any{
		"name": "Dana", "entityType": "person", "observations": []any{"owns the help desk"},
	}}}
	return other{
		id: "memory", command: []string{s.node(), s.script("server-memory")}, env: map[string]string{"MEMORY_FILE_PATH": file},
		grants: grantOf("remember", "", "tool: memory/create_entities", "tool: memory/read_graph"),
		steps: []step{
			{Method: "tools/list", has: "read_graph", lacks: "delete_entities"},
			call("create_entities", entities),
			call("read_graph", map[string]any{}).gives("owns the help desk"),
			call("delete_entities", map[string]any{"entityNames": []any{"Dana"}}).isDenied("delete_entities"),
			call("read_graph", map[string]any{}).gives("owns the help desk"),
		},
	}
}

func (s *stage) everything() other {
	return other{
		id: "everything", command: []string{s.node(), s.script("server-everything"), "stdio"},
		grants: grantOf("try-everything", "", "tool: everything/echo", "tool: everything/get-env", "tool: everything/trigger-sampling-request",
			"prompt: everything/simple-prompt", "resource: everything/demo://resource/static/*", "method: everything/sampling/createMessage"),
		steps: []step{
			{Method: "tools/list", has: `echo`, lacks: "get-sum"},
			call("echo", map[string]any{"message": "hello there"}).gives("hello there"),
			call("get-sum", map[string]any{"a": 1, "b": 2}).isDenied("get-sum"),
			// What the sidecar was started with is not the server's to know.
			call("get-env", map[string]any{}).gives("PATH").butNot("REEVE_"),
			{Method: "prompts/list", has: "simple-prompt", lacks: "args-prompt"},
			{Method: "prompts/get", Params: map[string]any{"name": "simple-prompt"}, has: "messages"},
			{Method: "resources/list", has: "demo://resource/static/"},
			{Method: "resources/read", Params: map[string]any{"uri": "demo://resource/dynamic/text/1"}, denied: true},
			call("trigger-sampling-request", map[string]any{"prompt": "say something", "maxTokens": 10}).gives("sampled by the client").ifSampling(),
		},
	}
}
