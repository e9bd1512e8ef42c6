package condition

import (
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"weak"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"
)

const (
	// maxLength is the longest condition, in bytes.
	maxLength = 4096
	// maxNesting is how deep an expression may nest.
	maxNesting = 50
	// maxTemplate is the longest template: a constant of two bytes becomes a
	// variable of five.
	maxTemplate = maxLength + 4*slots
	// maxLoops is how deep all, exists, filter and their like may nest.
	maxLoops = 2
)

// A Compiler compiles conditions and remembers the templates that are in use.
// It is safe for concurrent use.
type Compiler struct {
	env   *cel.Env
	rooms sync.Pool  // of *[]byte, for keys
	mu    sync.Mutex // guards templates
	// templates holds, by key, those that some condition still refers to.
	templates map[string]weak.Pointer[template]
}

// NewCompiler returns a compiler that has compiled nothing yet.
func NewCompiler() (*Compiler, error) {
	env, err := newEnv()
	if err != nil {
		return nil, fmt.Errorf("make the CEL environment: %w", err)
	}
	return &Compiler{
		env:       env,
		rooms:     sync.Pool{New: func() any { return new([]byte) }},
		templates: make(map[string]weak.Pointer[template]),
	}, nil
}

// Compile checks expr and returns it ready to be evaluated. An error wraps
// ErrInvalid, names the place and says what to do about it.
func (c *Compiler) Compile(expr string) (Condition, error) {
	if strings.IndexByte(expr, placeholder) >= 0 {
		return Condition{}, fmt.Errorf("%w: it has a NUL character; remove it", ErrInvalid)
	}
	room, _ := c.rooms.Get().(*[]byte)
	defer c.rooms.Put(room)
	key, constants := lift((*room)[:0], expr)
	*room = key
	if t := c.cached(key); t != nil {
		return newCondition(t, constants), nil
	}
	if reserved(key) {
		return Condition{}, fmt.Errorf("%w: names that begin with two underscores are reserved; choose another", ErrInvalid)
	}
	if err := c.check(expr); err != nil {
		return Condition{}, err
	}
	ast, err := c.parse(source(key))
	if err != nil {
		return Condition{}, fmt.Errorf("as a template: %w", err)
	}
	if err := c.bound(ast); err != nil {
		return Condition{}, err
	}
	// CEL's other optimizations can lose an error, as in "args.x in []", and an
	// error is what makes a forbid apply.
	program, err := c.env.Program(ast, cel.OptimizeRegex(interpreter.MatchesRegexOptimization))
	if err != nil {
		return Condition{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	t := c.remember(string(key), &template{shortCut: predicateOf(ast.NativeRep().Expr()), program: program})
	return newCondition(t, constants), nil
}

// cached returns the template that is remembered by key; nil if there is none.
func (c *Compiler) cached(key []byte) *template {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.templates[string(key)].Value()
}

// remember returns the one template by key: t, unless another goroutine was
// first.
func (c *Compiler) remember(key string, t *template) *template {
	c.mu.Lock()
	defer c.mu.Unlock()
	if first := c.templates[key].Value(); first != nil {
		return first
	}
	c.templates[key] = weak.Make(t)
	runtime.AddCleanup(t, c.forget, key)
	return t
}

// forget drops the template by key once nothing refers to it.
func (c *Compiler) forget(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.templates[key].Value() == nil {
		delete(c.templates, key)
	}
}

// check reports what is wrong with a condition as it was written. Whatever it
// refuses must be wrong with every condition of the same template: conditions
// that follow are not checked.
func (c *Compiler) check(expr string) error {
	if strings.TrimSpace(expr) == "" {
		return fmt.Errorf("%w: it is empty; leave it out if the grant always applies", ErrInvalid)
	}
	if len(expr) > maxLength {
		return fmt.Errorf("%w: it has %d bytes; at most %d are allowed", ErrInvalid, len(expr), maxLength)
	}
	ast, err := c.parse(expr)
	if err != nil {
		return err
	}
	if t := ast.OutputType(); !t.IsExactType(types.BoolType) && !t.IsExactType(types.DynType) {
		return fmt.Errorf("%w: it is %s; compare it with something, so that it is true or false", ErrInvalid, article(t.String()))
	}
	return nil
}

// reserved reports whether a word of a key, or of a string that stayed in it,
// begins with two underscores.
func reserved(key []byte) bool {
	for i := range len(key) - 1 {
		if key[i] == '_' && key[i+1] == '_' && (i == 0 || !isLetter(key[i-1]) && !isDigit(key[i-1])) {
			return true
		}
	}
	return false
}

func (c *Compiler) parse(expr string) (*cel.Ast, error) {
	ast, issues := c.env.Compile(expr)
	if issues == nil || issues.Err() == nil {
		return ast, nil
	}
	first := issues.Errors()[0]
	message := plainly(first.Message)
	if strings.HasPrefix(message, "undeclared reference") {
		message += "; a condition can read agent.{name,id,namespace,labels}, tool.{server,name,effect,reach}, user.id, session.{id,purpose,origin}, args and now"
	}
	return nil, fmt.Errorf("%w: at %d:%d: %s", ErrInvalid, first.Location.Line(), first.Location.Column()+1, message)
}

// source writes a key as an expression, with a variable for each constant.
var unexpected = regexp.MustCompile(`^Syntax error: (?:mismatched|extraneous) input ('.*') expecting (.*)$`)

// plainly says what the parser says without the list of all that it could have
// gone on with.
func plainly(message string) string {
	found := unexpected.FindStringSubmatch(message)
	if found == nil {
		return strings.NewReplacer("Syntax error: ", "syntax error: ", "'<EOF>'", "its end").Replace(message)
	}
	said := "syntax error: " + found[1] + " is not expected here"
	switch found[1] {
	case "'<EOF>'":
		said = "syntax error: it ends too early"
	case "'and'", "'or'", "'not'":
		said += "; write && for and, || for or, ! for not"
	}
	if wanted := found[2]; strings.HasPrefix(wanted, "'") {
		said += "; " + wanted + " is"
		if found[1] == "'<EOF>'" {
			said += " missing"
		}
	}
	return said
}

// article puts an article before the name of a type.
func article(name string) string {
	if strings.HasPrefix(name, "int") {
		return "an " + name
	}
	return "a " + name
}

func source(key []byte) string {
	var b strings.Builder
	n := 0
	for i := 0; i < len(key); i++ {
		if key[i] == placeholder {
			i++
			b.WriteString(variable(key[i], n))
			n++
			continue
		}
		b.WriteByte(key[i])
	}
	return b.String()
}
