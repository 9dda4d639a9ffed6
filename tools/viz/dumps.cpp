#include "dumps.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string_view>
#include <unordered_map>

#include <fmt/format.h>

namespace tinyphys::viz {
namespace {

namespace fs = std::filesystem;

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  if (!in.is_open() || in.bad()) throw std::runtime_error(path.string() + " cannot be read");
  return text;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

bool all_digits(std::string_view s) {
  return !s.empty() && std::all_of(s.begin(), s.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

// "0002-after-simplify.opt.ll" in its parts; false for files that are no dump.
bool split_name(const std::string& name, std::string& stem, std::string& stage, std::string& extension) {
  const std::size_t dash = name.find('-');
  if (dash == std::string::npos || dash < 4 || !all_digits(std::string_view(name).substr(0, dash)))
    return false;
  for (const char* e : {"opt.ll", "txt", "dot", "rules", "time", "ll", "cl", "asm"})
    if (name.ends_with(std::string(".") + e)) {
      extension = e;
      stem = name.substr(0, name.size() - extension.size() - 1);
      stage = stem.substr(dash + 1);
      return !stage.empty();
    }
  return false;
}

// Where what is between the op and the sources has a dtype and shape, "float64[3,4]".
bool is_type(std::string_view word) {
  constexpr std::array<std::string_view, 7> kTypes{"float", "int", "bool", "uint", "complex", "dd", "index"};
  return word.ends_with(']') &&
         std::any_of(kTypes.begin(), kTypes.end(), [&](std::string_view t) { return word.starts_with(t); });
}

}  // namespace

std::vector<GraphNode> parse_graph(const std::string& text, const std::string& file) {
  if (!text.empty() && text.back() != '\n') throw BadDump(file + " ends in the middle of a line");
  std::vector<GraphNode> nodes;
  std::set<std::string> known;
  std::string prefix = "n", body;
  int number = 0;
  for (std::string line : lines_of(text)) {
    ++number;
    const auto bad = [&](const std::string& why) {
      return BadDump(fmt::format("{}:{}: {}: {}", file, number, why, line.substr(0, 120)));
    };
    if (line.starts_with("body") && line.ends_with(":")) {
      body = line.substr(0, line.size() - 1);
      if (!all_digits(std::string_view(body).substr(4))) throw bad("not a node");
      prefix = "b" + body.substr(4) + "_";
      continue;
    }
    if (line.starts_with("  ")) {
      line.erase(0, 2);
    } else {
      prefix = "n";
      body.clear();
    }
    const std::size_t equals = line.find(" = ");
    if (!line.starts_with("%") || equals == std::string::npos ||
        !all_digits(std::string_view(line).substr(1, equals - 1)))
      throw bad("not a node");
    GraphNode n;
    n.id = prefix + line.substr(1, equals - 1);
    std::string rest = line.substr(equals + 3);
    if (const std::size_t gap = rest.find("   "); gap != std::string::npos) {
      n.where = rest.substr(gap + 3);
      rest.resize(gap);
    }
    std::vector<std::string> words;
    for (std::size_t at = 0; at < rest.size();) {
      const std::size_t end = std::min(rest.find(' ', at), rest.size());
      words.push_back(rest.substr(at, end - at));
      at = end + 1;
    }
    while (words.size() > 1) {
      const std::string& w = words.back();
      std::string id;
      if (w.starts_with("%") && all_digits(std::string_view(w).substr(1)))
        id = prefix + w.substr(1);
      else if (w.starts_with("body") && all_digits(std::string_view(w).substr(4)))
        id = w;
      else
        break;
      if (!known.contains(id)) throw bad(w + " is used before it is made");
      n.sources.insert(n.sources.begin(), id);
      words.pop_back();
    }
    if (words.empty()) throw bad("not a node");
    n.op = words[0];
    std::size_t next = 1;
    if (words.size() > 1 && is_type(words[1])) {
      const std::size_t bracket = words[1].find('[');
      n.dtype = words[1].substr(0, bracket);
      n.shape = words[1].substr(bracket);
      next = 2;
    }
    for (; next < words.size(); ++next) n.args += " " + words[next];
    if (!body.empty() && n.op == "LAMBDA") n.id = body;  // drawn under its own name
    if (!known.insert(n.id).second) throw bad("it is there twice");
    nodes.push_back(std::move(n));
  }
  return nodes;
}

void compare(std::vector<GraphNode>& before, std::vector<GraphNode>& after) {
  // The same node: the same text over the same sources. Numbers for what has been seen, the same for both graphs.
  std::unordered_map<std::string, int> classes;
  const auto classify = [&](const std::vector<GraphNode>& nodes) {
    std::unordered_map<std::string, int> own;
    std::vector<int> out;
    for (const GraphNode& n : nodes) {
      std::string key = n.key();
      for (const std::string& s : n.sources) key += fmt::format("|{}", own.at(s));
      const int c = classes.try_emplace(key, static_cast<int>(classes.size())).first->second;
      own[n.id] = c;
      out.push_back(c);
    }
    return out;
  };
  const std::vector<int> of_before = classify(before), of_after = classify(after);
  const std::set<int> in_before(of_before.begin(), of_before.end()),
      in_after(of_after.begin(), of_after.end());
  std::map<std::string, std::vector<GraphNode*>> left;  // before, gone as they stand
  for (std::size_t i = before.size(); i-- > 0;)
    if (!in_after.contains(of_before[i])) {
      before[i].removed = true;
      left[before[i].key()].push_back(&before[i]);
    }
  for (std::size_t i = 0; i < after.size(); ++i) {
    if (in_before.contains(of_after[i])) continue;
    after[i].change = "added";
    auto& of_key = left[after[i].key()];
    if (of_key.empty()) continue;
    after[i].change = "rebuilt";
    of_key.back()->removed = false;
    of_key.pop_back();
  }
}

std::vector<Stage> read_dumps(const std::string& folder) {
  std::error_code error;
  if (!fs::exists(folder, error)) throw std::runtime_error("there is no folder " + folder);
  if (!fs::is_directory(folder, error)) throw std::runtime_error(folder + " is no folder");
  fs::directory_iterator entries(folder, error);
  if (error) throw std::runtime_error(folder + " cannot be read: " + error.message());
  std::map<std::pair<long, std::string>, Stage> found;  // by number, then name
  for (const auto& entry : entries) {
    std::string stem, stage, extension;
    const std::string name = entry.path().filename().string();
    if (!split_name(name, stem, stage, extension)) continue;
    Stage& s = found[{std::stol(stem.substr(0, std::min<std::size_t>(stem.find('-'), 9))), stem}];
    s.file = stem;
    s.name = stage;
    std::string text = read_file(entry.path());
    if (extension == "txt")
      s.text = std::move(text);
    else if (extension == "dot")
      s.dot = std::move(text);
    else if (extension == "rules")
      s.rules = lines_of(text);
    else
      s.forms.emplace_back(extension, std::move(text));
  }
  if (found.empty())
    throw BadDump(folder +
                  " holds no dumps: set TINYPHYS_DEBUG_DIR to it and run a program that computes something");
  std::vector<Stage> stages;
  int realize = 0, graph = -1;
  for (auto& [key, s] : found) {
    const std::string at = folder + "/" + s.file;
    if (s.name == "recorded" || realize == 0) {
      ++realize;
      graph = -1;
    }
    s.realize = realize;
    std::sort(s.forms.begin(), s.forms.end());
    s.kind = s.name == "plan" || s.name == "times" || s.name == "explain"   ? s.name
             : s.name.starts_with("kernel-") || s.name.starts_with("host-") ? "kernel"
                                                                            : "graph";
    if (s.kind == "times" || s.kind == "explain") {
      stages.push_back(std::move(s));
      continue;
    }
    if (s.text.empty()) throw BadDump(at + ".txt is missing or empty");
    if (s.text.back() != '\n') throw BadDump(at + ".txt ends in the middle of a line");
    if (!s.dot.starts_with("digraph {\n") || !s.dot.ends_with("\n}\n"))
      throw BadDump(at + ".dot is missing or not whole");
    if (s.kind != "plan") s.nodes = parse_graph(s.text, at + ".txt");
    if (s.kind == "graph") {
      s.before = graph;
      graph = static_cast<int>(stages.size());
      if (s.before >= 0) compare(stages[static_cast<std::size_t>(s.before)].nodes, s.nodes);
    }
    stages.push_back(std::move(s));
  }
  return stages;
}

}  // namespace tinyphys::viz
