package guard

import (
	"errors"
	"fmt"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// advice says what to do about a rule that was broken, where the rule's own
// words do not. Keys are field name, with its message
// if others have one of that name, and rule id.
var advice = map[[2]string]string{
	{"expire_time", "required"}:             `is required, for all authority ends: add expireTime: "2027-01-31T00:00:00Z"`,
	{"targets", "repeated.min_items"}:       "must have at least one target: add targets: [{tool: server/tool}]",
	{"upstream", "required"}:                "is required: add http: {url: \"https://host/mcp\"}",
	{"target", "required"}:                  "is required: give one of tool, resource, prompt and method",
	{"kind", "required"}:                    "is required: give a namespace, an agent, a server, a tool or a grant",
	{"ttl", "duration.gte_lte"}:             "must be from 1 minute to 7 days",
	{"freshness_bound", "duration.gte_lte"}: "must be from 1 second to 15 minutes",
	{"resources", "repeated.max_items"}: "must be 60 at the most, for they are changed in one transaction: " +
		"split the file",
	{"StartSessionRequest.ttl", "duration.gte_lte"}: "must be from 1 second to 24 hours",
}

// Invalid turns the verdict of protovalidate into a status that names every
// field at fault and the resource it is in.
func Invalid(m proto.Message, err error) error {
	var broken *protovalidate.ValidationError
	if !errors.As(err, &broken) {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	var (
		words  []string
		detail errdetails.BadRequest
	)
	for _, v := range broken.Violations {
		owner, field := locate(m.ProtoReflect(), v.Proto.GetField())
		said := field + " " + explain(v)
		if owner != "" {
			said = owner + ": " + said
		}
		words = append(words, said)
		detail.FieldViolations = append(detail.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field:       protovalidate.FieldPathString(v.Proto.GetField()),
			Description: explain(v),
			Reason:      strings.ToUpper(strings.ReplaceAll(v.Proto.GetRuleId(), ".", "_")),
		})
	}
	s := status.New(codes.InvalidArgument, strings.Join(words, "; "))
	if with, err := s.WithDetails(&detail); err == nil {
		s = with
	}
	return s.Err()
}

// explain says in words what a field must be.
func explain(v *protovalidate.Violation) string {
	path, rule := v.Proto.GetField().GetElements(), v.Proto.GetRuleId()
	if len(path) == 0 {
		return v.Proto.GetMessage()
	}
	last := path[len(path)-1].GetFieldName()
	field := v.FieldDescriptor
	if field != nil {
		if said, ok := advice[[2]string{string(field.Parent().Name()) + "." + last, rule}]; ok {
			return said
		}
	}
	if said, ok := advice[[2]string{last, rule}]; ok {
		return said
	}
	switch {
	case field != nil && field.Enum() != nil:
		return "must be one of " + strings.Join(enumWords(field.Enum()), ", ")
	case last == "name" && rule == "string.pattern":
		return "must be " + form(v.RuleValue.String())
	case rule == "string.pattern":
		return "must match " + v.RuleValue.String()
	case rule == "required" || rule == "string.min_len":
		return "is required"
	default:
		return strings.TrimPrefix(v.Proto.GetMessage(), "value ")
	}
}

func enumWords(e protoreflect.EnumDescriptor) []string {
	var words []string
	for i := range e.Values().Len() {
		if v := e.Values().Get(i); v.Number() != 0 {
			words = append(words, string(v.Name()))
		}
	}
	return words
}

// form turns the pattern of a resource name into the form that people know,
// such as namespaces/{namespace}/grants/{grant}.
func form(pattern string) string {
	var parts []string
	for _, part := range strings.Split(strings.Trim(pattern, "^$"), "/") {
		if strings.Trim(part, "abcdefghijklmnopqrstuvwxyz") == "" {
			parts = append(parts, part, "{"+strings.TrimSuffix(part, "s")+"}")
		}
	}
	return strings.Join(parts, "/") + ", with ids of a-z, 0-9 and -, at most 63 long"
}

// locate follows a path to the innermost resource on it, and returns that
// resource's kind and name and the rest of the path.
func locate(m protoreflect.Message, path *validate.FieldPath) (resource, field string) {
	elements := path.GetElements()
	rest := elements
	resource = labelOf(m)
	for i, e := range elements {
		fd := m.Descriptor().Fields().ByName(protoreflect.Name(e.GetFieldName()))
		if fd == nil || fd.Message() == nil || fd.IsMap() {
			break
		}
		switch {
		case fd.IsList():
			list := m.Get(fd).List()
			at := int(e.GetIndex()) //nolint:gosec // an index into a list of 60 at the most
			if at >= list.Len() {
				return resource, render(rest)
			}
			m = list.Get(at).Message()
		default:
			m = m.Get(fd).Message()
		}
		if label := labelOf(m); label != "" && i+1 < len(elements) {
			resource, rest = label, elements[i+1:]
		}
	}
	return resource, render(rest)
}

// labelOf names a resource by kind and name, and is empty for other messages.
func labelOf(m protoreflect.Message) string {
	d := m.Descriptor()
	name := d.Fields().ByName("name")
	if name == nil || d.Fields().ByName("etag") == nil || d.Fields().ByName("create_time") == nil {
		return ""
	}
	return fmt.Sprintf("%s %q", strings.ToLower(string(d.Name())), m.Get(name).String())
}

func render(elements []*validate.FieldPathElement) string {
	return protovalidate.FieldPathString(&validate.FieldPath{Elements: elements})
}
