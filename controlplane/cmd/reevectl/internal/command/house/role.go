package house

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/cli"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// roles returns the words for roles, from the one that may least.
func roles() []string {
	return []string{"viewer", "auditor", "operator", "author", "approver", "owner"}
}

func roleWord(r adminv1.Admin_Role) string {
	return strings.ToLower(strings.TrimPrefix(r.String(), "ROLE_"))
}

func parseRole(word string) (adminv1.Admin_Role, error) {
	if slices.Contains(roles(), word) {
		return adminv1.Admin_Role(adminv1.Admin_Role_value[strings.ToUpper(word)]), nil
	}
	return 0, cli.Usage("--role %q: use %s", word, strings.Join(roles(), ", "))
}

// scope is where a role is given, as flags say.
type scope struct {
	role       string
	everywhere bool
}

func (s *scope) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.role, "role", "", "what the administrator may do: "+strings.Join(roles(), ",\n"[:2]))
	cmd.Flags().BoolVar(&s.everywhere, "everywhere", false, "in every namespace, instead of the one given by -n")
	cli.Complete(cmd, "role", roles())
}

// rolesLong says what each role may do.
const rolesLong = `A role is given in one namespace with -n, or with --everywhere in all:

  viewer    may read the catalogue, agents, grants, sessions and the fleet
  auditor   as viewer, and the records of decisions and of changes
  operator  as viewer, and may enrol sidecars, run sessions, and stop things
  author    as viewer, and may write agents, servers, tools and grants
  approver  as viewer, and may accept tools that changed
  owner     may do everything

All but viewers and auditors may revoke, suspend, end sessions and halt.`

// give returns where the flags give the role: everywhere, or in a namespace that
// was named, for that it is not to be taken from a context by mistake.
func (s *scope) give(cmd *cobra.Command, namespace string) (role adminv1.Admin_Role, binding *adminv1.Admin_Binding, err error) {
	if role, err = parseRole(s.role); err != nil {
		return 0, nil, err
	}
	named := cmd.Flag("namespace").Changed
	switch {
	case named && s.everywhere:
		return 0, nil, cli.Usage("give -n or --everywhere, not both")
	case s.everywhere:
		return role, nil, nil
	case named:
		return 0, &adminv1.Admin_Binding{Namespace: "namespaces/" + namespace, Role: role}, nil
	default:
		return 0, nil, cli.Usage("say where %s may do that: -n NAMESPACE, or --everywhere", s.role)
	}
}
