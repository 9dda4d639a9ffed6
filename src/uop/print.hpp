// Graphs for the eye. The text of a graph and its infix form stand in graph.hpp.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "uop/uop.hpp"

namespace tinyphys {

// A node without its sources: "REDUCE float64[3] sum [0]". `buffer_number` stands for the id of a BUFFER or SYM.
std::string head_text(const Node* n, std::int64_t buffer_number);
// The bodies that nodes below the roots have, outer ones first. Roots themselves are none.
std::vector<Node*> bodies_below(std::span<Node* const> roots);

// The graph in the language of Graphviz: nodes labelled with op, type, shape and file:line, a cluster for each body. A
// graph of more than `max_nodes` is said to be large and not drawn. The same text from run to run, as to_text().
std::string to_dot(std::span<Node* const> roots, std::size_t max_nodes = 2000);

// A label as Graphviz reads it, quotes included.
std::string dot_quoted(std::string_view text);

// Text and drawing into TINYPHYS_DEBUG_DIR; nothing where that is not set.
// `rules`: what made it of the graph before it, a line each, into a file .rules beside them.
void dump_graph(std::string_view stage, std::span<Node* const> roots, const std::string& rules = "");
void dump_graph(std::string_view stage, const UOp& root, const std::string& rules = "");

}  // namespace tinyphys
