// Package config reads the YAML files that people write for Lockstep: agent files, change files, manifests; and it writes YAML.
//
// Guarantees: an unknown key (with the nearest known one), a key that stands twice, a value of the wrong kind and a second document
// are errors; every error names file, line and column in one line. Documents are bounded in size, nesting and alias expansion before
// they are parsed. A Value is a resource value on its way to JSON, refused where YAML and JSON would not mean the same. What is written is valid YAML and says the same, whatever characters the texts hold.
//
// It is not for files that others own: it knows no rendering and no editing.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// MaxSize is the largest document in bytes that Decode reads.
const MaxSize = 1 << 20

// An Error is what is wrong with a document, and where.
type Error struct {
	File         string
	Line, Column int    // from 1; columns count characters
	Message      string // one line; it names keys and kinds, never a value
	Source       string // the line as it stands in the file, for display beside the message
}

func (e *Error) Error() string {
	where := fmt.Sprintf("%d:%d", e.Line, e.Column)
	if e.File != "" {
		where = e.File + ":" + where
	}
	return where + ": " + e.Message
}

// Decode reads one YAML document into the struct, map or slice that into points to. Fields are named by their yaml tags (",inline" is
// understood). Types that implement UnmarshalYAML(ast.Node) or encoding.TextUnmarshaler read themselves; one that implements
// ShortForm(json.RawMessage) may also be written as a scalar. An empty document and a null
// leave what into holds. Errors are *Error.
func Decode(name string, data []byte, into any) error {
	if len(data) > MaxSize {
		return &Error{File: name, Line: 1, Column: 1, Message: fmt.Sprintf("the file has %d bytes, more than %d: split it", len(data), MaxSize)}
	}
	data, err := utf8Text(data)
	if err != nil {
		return inFile(err, name, nil)
	}
	root, _, err := Parse(data)
	if err == nil {
		err = bind(root, into)
	}
	return inFile(err, name, data)
}

// utf8Text is a text without a byte order mark before it. What is not UTF-8 would be read as other characters than its author wrote.
func utf8Text(data []byte) ([]byte, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if utf8.Valid(data) {
		return data, nil
	}
	at := 0
	for at < len(data) {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	before := data[:at]
	return nil, &Error{Line: bytes.Count(before, []byte("\n")) + 1, Column: utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1,
		Message: "the file is no UTF-8 text from here on: save it as UTF-8"}
}

// inFile adds to an *Error the file's name and the source line.
func inFile(err error, name string, data []byte) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = &Error{Line: 1, Column: 1, Message: err.Error()}
	}
	located := *e
	located.File = name
	if lines := strings.Split(string(data), "\n"); located.Line >= 1 && located.Line <= len(lines) {
		located.Source = strings.TrimRight(lines[located.Line-1], "\r")
	}
	return &located
}

// Parse reads one YAML document of any size as a tree, nil for an empty document, with anchors and aliases resolved. The tokens are
// those of the text, comments included. Errors are *Error without file and source line.
func Parse(data []byte) (ast.Node, token.Tokens, error) { return parse(data, maxNodes) }

// parse is Parse with at most so many nodes.
func parse(data []byte, most int) (ast.Node, token.Tokens, error) {
	text := strings.ReplaceAll(string(data), "\r\n", "\n") // the lexer counts a line too many for some
	tokens := lexer.Tokenize(text)
	if err := checkNesting(tokens); err != nil {
		return nil, nil, err
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // entries refuses them, in our words
	if err != nil {
		return nil, nil, syntaxError(err)
	}
	var root ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case root == nil:
			root = doc.Body
		default:
			return nil, nil, at(doc.Body, "a second document begins: one file holds one")
		}
	}
	root, err = resolveAliases(root, most)
	if err != nil {
		return nil, nil, err
	}
	return root, tokens, nil
}

// syntaxError is the parser's complaint without its excerpt of the source, which may hold what must not be shown.
func syntaxError(err error) error {
	complaint, ok := errors.AsType[yaml.Error](err)
	if !ok {
		return &Error{Line: 1, Column: 1, Message: "not valid YAML"}
	}
	message := complaint.GetMessage()
	if strings.HasPrefix(message, "invalid header option") { // it quotes the text, which may be a secret
		message = "after the | or > that begins a block of text nothing else stands on the line"
	}
	e := &Error{Line: 1, Column: 1, Message: "not valid YAML: " + message}
	if t := complaint.GetToken(); t != nil && t.Position != nil {
		e.Line, e.Column = max(t.Position.Line, 1), max(t.Position.Column, 1)
	}
	return e
}

// at is an Error at the place where a node begins.
func at(n ast.Node, format string, args ...any) *Error {
	line, column := position(n)
	return &Error{Line: line, Column: column, Message: fmt.Sprintf(format, args...)}
}

// position is where a node begins, for a mapping at its first key.
func position(n ast.Node) (line, column int) {
	switch t := n.(type) {
	case *ast.MappingNode:
		if !t.IsFlowStyle && len(t.Values) > 0 {
			return position(t.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return position(t.Key)
	}
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 1, 1
	}
	p := n.GetToken().Position
	return max(p.Line, 1), max(p.Column, 1)
}
