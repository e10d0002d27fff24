package policy

import (
	"strings"
	"testing"
)

func TestAnExpressionThatIsWrongIsSaidWithItsLine(t *testing.T) {
	cases := map[string]struct{ spec, want string }{
		"a field that is not there":        {"validations:\n- expression: 'true'\n- expression: object.vlaue == 1", "p0.yaml:7:1: policy/p: validation 2: undefined field 'vlaue'"},
		"a word that is not known":         {"validations: [{expression: resource == null}]", "undeclared reference to 'resource'"},
		"a variable that is not there":     {"variables: [{name: a, expression: '1'}]\nvalidations: [{expression: variables.b == 1}]", "undefined field 'b'"},
		"a variable that stands behind":    {"variables: [{name: a, expression: variables.b}, {name: b, expression: '1'}]\nvalidations: [{expression: variables.a == 1}]", "the variable a: undefined field 'b'"},
		"no truth":                         {"validations: [{expression: 1 + 2}]", "validation 1 gives int; it must give bool"},
		"a message that is no text":        {"validations: [{expression: 'true', messageExpression: 1 + 2}]", "the messageExpression of validation 1 gives int; it must give string"},
		"types that do not fit":            {"validations: [{expression: environment.name > 3}]", "found no matching overload"},
		"a regular expression":             {"validations: [{expression: environment.name.matches('(')}]", "invalid matches argument"},
		"syntax, on one line":              {"validations: [{expression: object.}]", "Syntax error"},
		"a condition without expression":   {"matchConditions: [{name: a}]\nactions: [Deny]", "the condition a has no expression"},
		"an expression that is too long":   {"validations: [{expression: \"'" + strings.Repeat("x", maxExpression) + "' != ''\"}]", "expression code point size exceeds limit"},
		"more expressions than are read":   {"validations: [" + strings.Repeat("{expression: 'true'}, ", maxExpressions) + "{expression: 'true'}]", "65 expressions; at most 64"},
		"one inside of very many brackets": {"validations: [{expression: '" + strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200) + "'}]", "expression recursion limit exceeded"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := new(Library).Judge(prod(read(t, policyNamed("p", c.spec))))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
