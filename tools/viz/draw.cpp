#include "draw.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <spawn.h>
#include <stdexcept>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>

extern char** environ;

namespace tinyphys::viz {
namespace {

namespace fs = std::filesystem;
constexpr const char* kNoDot = "the program dot is not installed; it is in the Debian package graphviz";

// Edges as lines, and fewer rounds of straightening, from so many nodes: a graph of thousands then takes seconds.
constexpr long kLarge = 400;

struct Workplace {
  fs::path path;
  Workplace() {
    std::string name = (fs::temp_directory_path() / "tinyphys-viz-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error(name + " cannot be made: " + std::strerror(errno));
    path = name;
  }
  ~Workplace() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;
};

std::string contents(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

long declared_nodes(const std::string& dot) {
  long n = 0;
  for (std::size_t at = 0; (at = dot.find(" [label=", at)) != std::string::npos; ++at) ++n;
  return n;
}

// The exit status, -1 when it took too long.
int run_dot(const std::vector<std::string>& words, const fs::path& out, const fs::path& err, double limit) {
  std::vector<char*> arguments;
  for (const std::string& w : words) arguments.push_back(const_cast<char*>(w.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&files, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, "dot", &files, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  if (failed == ENOENT) throw std::runtime_error(kNoDot);
  if (failed != 0) throw std::runtime_error(std::string("dot cannot be run: ") + std::strerror(failed));
  const auto start = std::chrono::steady_clock::now();
  int status = 0;
  for (auto pause = std::chrono::milliseconds(1);;
       pause = std::min(2 * pause, std::chrono::milliseconds(50))) {
    const pid_t ended = waitpid(child, &status, WNOHANG);
    if (ended == child) break;
    if (ended < 0 && errno != EINTR) throw std::runtime_error(std::string("dot: ") + std::strerror(errno));
    if (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() > limit) {
      kill(child, SIGKILL);
      while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
      }
      return -1;
    }
    std::this_thread::sleep_for(pause);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

}  // namespace

void draw_all(std::vector<Stage>& stages, double seconds) {
  const Workplace work;
  const fs::path in = work.path / "in.dot", out = work.path / "out.svg", err = work.path / "err";
  std::map<std::string, const Stage*> drawn;  // the same graph is drawn once
  for (Stage& s : stages) {
    if (s.dot.empty()) continue;
    if (const auto same = drawn.find(s.dot); same != drawn.end()) {
      s.svg = same->second->svg;
      s.no_svg = same->second->no_svg;
      continue;
    }
    drawn[s.dot] = &s;
    if (s.dot.find("  large [label=") != std::string::npos) {
      s.no_svg = fmt::format("{} nodes: too many to be drawn, here is the text", s.nodes.size());
      continue;
    }
    std::ofstream(in, std::ios::binary) << s.dot;
    std::vector<std::string> words{"dot", "-Tsvg", "-Gbgcolor=transparent"};
    if (declared_nodes(s.dot) > kLarge)
      words.insert(words.end(), {"-Gsplines=line", "-Gnslimit=1", "-Gnslimit1=1", "-Gmclimit=0.1"});
    words.push_back(in.string());
    const int status = run_dot(words, out, err, seconds);
    if (status == -1) {
      s.no_svg = fmt::format("dot took more than {} s to draw this graph: here is the text", seconds);
      continue;
    }
    if (status == 127) throw std::runtime_error(kNoDot);
    std::string svg = contents(out);
    const std::size_t begin = svg.find("<svg");
    if (status != 0 || begin == std::string::npos || svg.find("</svg>") == std::string::npos)
      throw BadDump(fmt::format("{}.dot: dot does not understand it: {}", s.file, contents(err)));
    s.svg = svg.substr(begin);
  }
}

}  // namespace tinyphys::viz
