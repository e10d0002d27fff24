package flagd

import (
	"encoding/json"
	"maps"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/lockstep-dev/lockstep/internal/config"
)

var printer = message.NewPrinter(language.English)

var escaper = strings.NewReplacer("~", "~0", "/", "~1")

// escape is a member's name as a segment of a JSON pointer.
func escape(name string) string { return escaper.Replace(name) }

// yields says what an operation gives where a variant is expected.
type yields int

const (
	something yields = iota // that only its context decides
	truth                   // true or false
	branches                // one of its arguments
)

// known are the operations of targeting rules: those of JsonLogic that the schema has, and flagd's own.
var known = map[string]yields{
	"var": something, "missing": something, "missing_some": something, "if": branches, "fractional": branches, "$ref": something,
	"==": truth, "===": truth, "!=": truth, "!==": truth, ">": truth, ">=": truth, "<": truth, "<=": truth, "!": truth, "!!": truth,
	"in": truth, "all": truth, "none": truth, "some": truth, "starts_with": truth, "ends_with": truth, "sem_ver": truth,
	"and": something, "or": something, "%": something, "/": something, "*": something, "+": something, "-": something, "max": something, "min": something,
	"map": something, "filter": something, "reduce": something, "merge": something, "cat": something, "substr": something,
}

// operations says whether every operation in a rule is known.
func operations(rule any, path string) error {
	switch r := rule.(type) {
	case map[string]any:
		if len(r) > 1 {
			return wrong(path, "a rule has one operation, and this one has %s", strings.Join(slices.Sorted(maps.Keys(r)), ", "))
		}
		for name, argument := range r {
			if _, ok := known[name]; !ok {
				hint := ""
				if near := config.Nearest(name, slices.Sorted(maps.Keys(known))); near != "" {
					hint = "; did you mean " + strconv.Quote(near) + "?"
				}
				return wrong(path, "flagd knows no operation %q%s", name, hint)
			}
			return operations(argument, path+"/"+escape(name))
		}
	case []any:
		for i, item := range r {
			if err := operations(item, path+"/"+strconv.Itoa(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// targeting walks a rule.
type targeting struct {
	variants   map[string]any // nil for an evaluator, which may be used by any flag
	references []Reference
	err        error // the first
}

func (t *targeting) fail(path, format string, args ...any) {
	if t.err == nil {
		t.err = wrong(path, format, args...)
	}
}

// walk visits a rule. What a result is names a variant.
func (t *targeting) walk(rule any, path string, result bool) {
	switch r := rule.(type) {
	case map[string]any:
		for name, argument := range r { // there is at most one
			t.operation(name, argument, path, result)
		}
	case []any:
		if result {
			t.fail(path, "a list names no variant")
		}
		for i, item := range r {
			t.walk(item, path+"/"+strconv.Itoa(i), false)
		}
	default:
		if result {
			t.variant(rule, path)
		}
	}
}

func (t *targeting) operation(name string, argument any, path string, result bool) {
	at := path + "/" + escape(name)
	list, isList := argument.([]any)
	switch {
	case name == "$ref":
		if evaluator, ok := argument.(string); ok {
			t.references = append(t.references, Reference{at, evaluator})
		}
	case name == "if" && isList:
		for i, item := range list {
			// Condition, result, condition, result, …, and the last one alone is a result, unless it is the only one.
			isResult := i%2 == 1 || i == len(list)-1 && i > 0
			t.walk(item, at+"/"+strconv.Itoa(i), result && isResult)
		}
	case name == "fractional" && isList:
		t.fractional(list, at, result)
	default:
		if result && known[name] == truth {
			t.variant(true, path)
			t.variant(false, path)
		}
		t.walk(argument, at, false)
	}
}

// variant says whether a literal names a variant. A literal null gives the default.
func (t *targeting) variant(literal any, path string) {
	name := ""
	switch l := literal.(type) {
	case nil:
		return
	case string:
		name = l
	case bool:
		name = strconv.FormatBool(l)
	case json.Number:
		name = l.String()
	}
	if _, there := t.variants[name]; !there && t.variants != nil {
		t.fail(path, "targeting gives the variant %q, which is not there; there are %s", name, names(t.variants))
	}
}

// fractional checks a draw: an optional value to draw by, then variants with weights, 1 where there is none.
func (t *targeting) fractional(list []any, path string, result bool) {
	sum := new(big.Int)
	for i, item := range list {
		at := path + "/" + strconv.Itoa(i)
		share, isShare := item.([]any)
		if !isShare || len(share) == 0 {
			t.walk(item, at, false)
			continue
		}
		t.walk(share[0], at+"/0", result)
		weight := big.NewInt(1)
		if len(share) > 1 {
			var ok bool
			number, _ := share[1].(json.Number)
			if weight, ok = new(big.Int).SetString(number.String(), 10); !ok || weight.Sign() < 0 {
				t.fail(at+"/1", "a weight is a whole number that is not negative")
				return
			}
		}
		sum.Add(sum, weight)
	}
	switch {
	case sum.Sign() == 0:
		t.fail(path, "all weights together are 0: nothing would be drawn")
	case sum.Cmp(big.NewInt(math.MaxInt32)) > 0:
		t.fail(path, "all weights together are %s; at most %d can be drawn from", sum, math.MaxInt32)
	}
}
