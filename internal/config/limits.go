package config

import (
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

const (
	maxNesting = 64        // levels of mappings and sequences
	maxNodes   = 2_000_000 // nodes of a tree of Parse after aliases were resolved
)

// checkNesting bounds what the parser, which recurses, has to go into. A block's depth is the number of columns that are open at a token.
func checkNesting(tokens token.Tokens) error {
	flow := 0
	var columns []int
	for _, t := range tokens {
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType:
			columns = open(columns, t.Position.Column)
		case token.MappingValueType:
			if t.Prev != nil && t.Prev.Position != nil && flow == 0 {
				columns = open(columns, t.Prev.Position.Column)
			}
		}
		if flow+len(columns) > 2*maxNesting || flow > maxNesting {
			return &Error{Line: t.Position.Line, Column: max(t.Position.Column, 1), Message: "nested too deeply: at most 64 levels"}
		}
	}
	return nil
}

func open(columns []int, column int) []int {
	for len(columns) > 0 && columns[len(columns)-1] > column {
		columns = columns[:len(columns)-1]
	}
	if len(columns) == 0 || columns[len(columns)-1] < column {
		columns = append(columns, column)
	}
	return columns
}

// resolveAliases puts what an anchor names in the place of each alias, so that readers of the tree meet neither. It counts nodes as
// if each alias were written out, and refuses more than most of them.
func resolveAliases(root ast.Node, most int) (ast.Node, error) {
	r := resolver{anchors: map[string]anchored{}, most: most}
	return r.node(root, 0)
}

type anchored struct {
	node ast.Node // nil while the anchor's own node is being read
	size int
}

type resolver struct {
	anchors map[string]anchored
	count   int
	most    int
}

func (r *resolver) node(n ast.Node, depth int) (ast.Node, error) {
	r.count++
	if r.count > r.most {
		return nil, at(n, "aliases make the document too large: write the values out")
	}
	if depth > maxNesting {
		return nil, at(n, "nested too deeply: at most %d levels", maxNesting)
	}
	var err error
	switch t := n.(type) {
	case *ast.AnchorNode:
		name, before := t.Name.GetToken().Value, r.count
		r.anchors[name] = anchored{}
		value, err := r.node(t.Value, depth)
		if err != nil {
			return nil, err
		}
		r.anchors[name] = anchored{value, r.count - before}
		return value, nil
	case *ast.AliasNode:
		a, known := r.anchors[t.Value.GetToken().Value]
		if !known {
			return nil, at(n, "the alias names no anchor before it")
		}
		if a.node == nil {
			return nil, at(n, "the alias stands within its own anchor")
		}
		if r.count += a.size; r.count > r.most {
			return nil, at(n, "aliases make the document too large: write the values out")
		}
		return a.node, nil
	case *ast.TagNode:
		if t.Value != nil {
			t.Value, err = r.node(t.Value, depth)
		}
	case *ast.MappingNode:
		for _, entry := range t.Values {
			if entry.Value, err = r.node(entry.Value, depth+1); err != nil {
				return nil, err
			}
		}
	case *ast.MappingValueNode:
		t.Value, err = r.node(t.Value, depth+1)
	case *ast.SequenceNode:
		for i, item := range t.Values {
			if t.Values[i], err = r.node(item, depth+1); err != nil {
				return nil, err
			}
		}
	}
	return n, err
}
