package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// A Value is a resource value as JSON, and the place in its file where it stands. Reading one refuses what JSON cannot hold or what
// readers of YAML understand differently: NaN and infinities, keys that are not text, integers beyond ±(2^53−1), 010, 1_000, 0b1, own tags.
type Value struct {
	JSON         json.RawMessage
	Line, Column int
}

// UnmarshalYAML reads the value from its node; Decode calls it.
func (v *Value) UnmarshalYAML(n ast.Node) error {
	tree, err := JSON(n, refuse)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(tree); err != nil {
		return at(n, "the value is not JSON: %v", err)
	}
	v.JSON = bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	v.Line, v.Column = position(n)
	return nil
}

// UnmarshalJSON takes the value as it is: what was read from YAML before, and kept as JSON. It has no place then.
func (v *Value) UnmarshalJSON(b []byte) error {
	v.JSON = bytes.Clone(b)
	return nil
}

// A Substitute says what stands for a scalar that has no place in JSON, or returns an error. The text is the scalar as written, why a
// sentence about it. For a key that is not text it only decides whether the text serves as the key.
type Substitute func(n ast.Node, text, why string) (any, error)

// refuse is the Substitute of what we read ourselves: an error at the node.
func refuse(n ast.Node, _, why string) (any, error) { return nil, at(n, "%s", why) }

// JSON turns a parsed node into JSON's types: nil, bool, json.Number, string, []any, map[string]any.
func JSON(n ast.Node, instead Substitute) (any, error) {
	switch t := n.(type) {
	case nil, *ast.NullNode:
		return nil, nil
	case *ast.BoolNode:
		return t.Value, nil
	case *ast.StringNode:
		if t.Token.Type == token.StringType && looksNumeric(t.Token.Value) {
			return number(n, instead)
		}
		return t.Value, nil
	case *ast.LiteralNode:
		return t.Value.Value, nil
	case *ast.IntegerNode, *ast.FloatNode:
		return number(n, instead)
	case *ast.TagNode:
		return tagged(t, instead)
	case *ast.MappingNode, *ast.MappingValueNode:
		list, err := entries(n, instead)
		if err != nil {
			return nil, err
		}
		object := make(map[string]any, len(list))
		for _, e := range list {
			if object[e.name], err = JSON(e.value, instead); err != nil {
				return nil, err
			}
		}
		return object, nil
	case *ast.SequenceNode:
		array := make([]any, len(t.Values))
		for i, item := range t.Values {
			var err error
			if array[i], err = JSON(item, instead); err != nil {
				return nil, err
			}
		}
		return array, nil
	case *ast.InfinityNode, *ast.NanNode:
		return instead(n, n.GetToken().Value, "JSON has no infinity and no NaN: write a number or a text in quotes")
	}
	return instead(n, "", "this kind of node has no place in JSON")
}

func tagged(t *ast.TagNode, instead Substitute) (any, error) {
	switch tag := t.Start.Value; tag {
	case "!!str":
		return text(t.Value), nil
	case "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq":
		return JSON(t.Value, instead)
	default:
		return instead(t, tag+" "+text(t.Value), fmt.Sprintf("the tag %s has no place in JSON", tag))
	}
}

// text is a scalar as written, without quotes; "" for everything else.
func text(n ast.Node) string {
	switch t := n.(type) {
	case *ast.StringNode:
		return t.Value
	case *ast.LiteralNode:
		return t.Value.Value
	case ast.ScalarNode:
		return t.GetToken().Value
	}
	return ""
}

// A pattern of YAML 1.2's core schema; the parser takes some of these for text (1e3, large integers), so that they are judged here.
var (
	numeric = regexp.MustCompile(`^([-+]?)([0-9]*)(?:\.([0-9]*))?([eE][-+]?[0-9]+)?$`)
	based   = regexp.MustCompile(`^(?:0x[0-9a-fA-F]+|0o[0-7]+)$`)
)

func looksNumeric(s string) bool {
	m := numeric.FindStringSubmatch(s)
	return m != nil && m[2]+m[3] != ""
}

const maxSafeInteger = 1<<53 - 1

// number is a numeric scalar as a json.Number.
func number(n ast.Node, instead Substitute) (any, error) {
	text := n.GetToken().Value
	if based.MatchString(text) {
		if i, err := strconv.ParseUint(text, 0, 53); err == nil {
			return json.Number(strconv.FormatUint(i, 10)), nil
		}
		return instead(n, text, "the integer is beyond ±(2^53−1): write it in quotes")
	}
	m := numeric.FindStringSubmatch(text)
	if m == nil {
		return instead(n, text, "readers of YAML do not agree on this number: write it in decimal, or in quotes")
	}
	sign, whole, fraction, exponent := strings.TrimPrefix(m[1], "+"), m[2], m[3], m[4]
	if fraction == "" && exponent == "" {
		if len(whole) > 1 && whole[0] == '0' {
			return instead(n, text, "readers of YAML do not agree whether this is octal: write 0o… or decimal, or put it in quotes")
		}
		if i, err := strconv.ParseInt(whole, 10, 64); err != nil || i > maxSafeInteger {
			return instead(n, text, "the integer is beyond ±(2^53−1): write it in quotes")
		}
	}
	whole = strings.TrimLeft(whole, "0")
	if whole == "" {
		whole = "0"
	}
	literal := sign + whole
	if fraction != "" {
		literal += "." + fraction
	}
	literal += exponent
	if _, err := strconv.ParseFloat(literal, 64); err != nil {
		return instead(n, text, "the number is out of range: write it in quotes")
	}
	return json.Number(literal), nil
}

// An entry is one key of a mapping, its own or merged.
type entry struct {
	key   ast.Node
	name  string
	value ast.Node
}

// entries are a mapping's keys in order, with what merge keys (<<) bring in behind what the mapping says itself. Keys that are not
// text are for instead to judge, keys that stand twice are errors.
func entries(n ast.Node, instead Substitute) ([]entry, error) {
	var own []*ast.MappingValueNode
	switch t := n.(type) {
	case *ast.MappingNode:
		own = t.Values
	case *ast.MappingValueNode:
		own = []*ast.MappingValueNode{t}
	default:
		return nil, at(n, "a merge key needs a mapping")
	}
	var list, merged []entry
	seen := make(map[string]bool, len(own))
	for _, e := range own {
		if e.Key.IsMergeKey() {
			more, err := mergedEntries(e.Value, instead)
			if err != nil {
				return nil, err
			}
			merged = append(merged, more...)
			continue
		}
		name, err := keyName(e.Key, instead)
		if err != nil {
			return nil, err
		}
		if seen[name] {
			return nil, at(e.Key, "the key %q stands twice", name)
		}
		seen[name] = true
		list = append(list, entry{e.Key, name, e.Value})
	}
	for _, e := range merged {
		if !seen[e.name] {
			seen[e.name] = true
			list = append(list, e)
		}
	}
	return list, nil
}

func mergedEntries(n ast.Node, instead Substitute) ([]entry, error) {
	sequence, ok := n.(*ast.SequenceNode)
	if !ok {
		return entries(n, instead)
	}
	var all []entry
	for _, item := range sequence.Values {
		more, err := entries(item, instead)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	return all, nil
}

func keyName(key ast.Node, instead Substitute) (string, error) {
	s, ok := key.(*ast.StringNode)
	if ok && (s.Token.Type != token.StringType || !looksNumeric(s.Value)) {
		return s.Value, nil
	}
	_, err := instead(key, text(key), "a key must be text: put it in quotes")
	return text(key), err
}
