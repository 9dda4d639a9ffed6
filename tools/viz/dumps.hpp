// What a folder of TINYPHYS_DEBUG_DIR holds, read back and compared stage by stage.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace tinyphys::viz {

// The folder holds what no whole dump holds. The message names file and line.
struct BadDump : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A line of a graph's text. `id` is what the drawing calls it.
struct GraphNode {
  std::string id, op, dtype, shape, args, where;
  std::vector<std::string> sources;
  std::string change;    // against the graph before: "", "added", or "rebuilt": the same over other sources
  bool removed = false;  // from the graph after: it has no such node, rebuilt or not
  std::string key() const { return op + " " + dtype + shape + args; }
};

struct Stage {
  int realize = 0;   // counted from 1
  std::string file;  // "0002-after-simplify"
  std::string name;  // "after-simplify"
  std::string kind;  // graph, plan, kernel, times or explain
  std::string text, dot;
  std::vector<GraphNode> nodes;  // of graphs and kernels
  int before = -1;               // the stage that holds the graph before, of graphs
  std::vector<std::string> rules;
  std::vector<std::pair<std::string, std::string>> forms;  // extension and text: ll, opt.ll, asm, cl, time
  std::string svg, no_svg;                                 // the drawing, or why there is none
};

// Throws BadDump; std::runtime_error where the folder or a file cannot be read.
std::vector<Stage> read_dumps(const std::string& folder);

// The nodes of a graph's text; `file` names it in messages.
std::vector<GraphNode> parse_graph(const std::string& text, const std::string& file);

// Marks what `after` has and `before` has not, and the other way round.
void compare(std::vector<GraphNode>& before, std::vector<GraphNode>& after);

}  // namespace tinyphys::viz
