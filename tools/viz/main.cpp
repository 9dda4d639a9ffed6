// tinyphys-viz: makes one page of what TINYPHYS_DEBUG_DIR holds, to step through what became of a program.
#include <charconv>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "draw.hpp"
#include "dumps.hpp"
#include "page.hpp"

namespace tinyphys::viz {
namespace {

constexpr int kDone = 0, kBadDump = 1, kUsage = 2, kFailed = 3;

constexpr const char* kHelp = R"(NAME
  tinyphys-viz - steps through what became of a program, in a browser

SYNOPSIS
  tinyphys-viz DIR [-o FILE] [--dot-limit SECONDS]

DESCRIPTION
  DIR is the folder that TINYPHYS_DEBUG_DIR named when the program ran. From the stages in it one HTML page is made that
  needs no network and no other file: the graph as it was recorded, before and after each pass with the difference and the
  rules that fired, the plan, the kernels with their text and times, and the report of explain().

    TINYPHYS_DEBUG_DIR=d my_program && tinyphys-viz d && xdg-open d/index.html

  Graphs are drawn by the program dot of Graphviz (Debian package graphviz). Of a graph of more than 2000 nodes, and of
  one that takes dot too long, the page shows the text.

OPTIONS
  -o, --output FILE     the page; DIR/index.html by default
  --dot-limit SECONDS   how long dot may take for one graph; 60 by default
  --help                this text
  --version             the version of tinyphys

EXIT STATUS
  0  done
  1  DIR holds no dumps, or one that is not whole
  2  the command line is not understood
  3  a file cannot be read or written, or dot is not installed
)";

struct Usage {
  std::string message;
};

struct Options {
  std::string folder, output;
  double dot_limit = 60;
  const char* only = nullptr;  // the text to print in place of the work
};

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const std::size_t equals = argument.starts_with("--") ? argument.find('=') : std::string_view::npos;
    const std::string option(argument.substr(0, equals));
    const auto value = [&]() -> std::string {
      std::string v;
      if (equals != std::string_view::npos)
        v = argument.substr(equals + 1);
      else if (++i < argc)
        v = argv[i];
      if (v.empty()) throw Usage{option + " needs a value"};
      return v;
    };
    if (argument == "--help" || argument == "-h") {
      o.only = kHelp;
      return o;
    }
    if (argument == "--version") {
      o.only = "tinyphys-viz " TINYPHYS_VIZ_VERSION "\n";
      return o;
    }
    if (option == "-o" || option == "--output") {
      o.output = value();
    } else if (option == "--dot-limit") {
      const std::string v = value();
      const auto [end, error] = std::from_chars(v.data(), v.data() + v.size(), o.dot_limit);
      if (error != std::errc() || end != v.data() + v.size() || !(o.dot_limit > 0) ||
          !std::isfinite(o.dot_limit))
        throw Usage{"--dot-limit " + v + ": not a number of seconds above 0"};
    } else if (argument.starts_with("-")) {
      throw Usage{"unknown option " + option};
    } else if (!o.folder.empty()) {
      throw Usage{fmt::format("one folder, not both {} and {}", o.folder, argument)};
    } else {
      o.folder = argument;
    }
  }
  if (o.folder.empty()) throw Usage{"which folder?"};
  if (o.output.empty()) o.output = (std::filesystem::path(o.folder) / "index.html").string();
  return o;
}

int run(const Options& o) {
  std::vector<Stage> stages = read_dumps(o.folder);
  draw_all(stages, o.dot_limit);
  std::filesystem::path named = std::filesystem::path(o.folder).lexically_normal();
  if (!named.has_filename()) named = named.parent_path();
  const std::string text = page(stages, "tinyphys: " + named.filename().string());
  std::ofstream out(o.output, std::ios::binary);
  out << text;
  if (!out.flush()) throw std::runtime_error(o.output + " cannot be written");
  fmt::print("{}: {} steps of {} plan{}\n", o.output, stages.size(), stages.back().realize,
             stages.back().realize == 1 ? "" : "s");
  return kDone;
}

}  // namespace
}  // namespace tinyphys::viz

int main(int argc, char** argv) {
  using namespace tinyphys::viz;
  try {
    const Options options = parse(argc, argv);
    int code = kDone;
    if (options.only)
      fmt::print("{}", options.only);
    else
      code = run(options);
    if (std::fflush(stdout) != 0) throw std::runtime_error("the output cannot be written");
    return code;
  } catch (const Usage& e) {
    fmt::print(stderr, "tinyphys-viz: {}\nTry --help.\n", e.message);
    return kUsage;
  } catch (const BadDump& e) {
    fmt::print(stderr, "tinyphys-viz: {}\n", e.what());
    return kBadDump;
  } catch (const std::exception& e) {
    fmt::print(stderr, "tinyphys-viz: {}\n", e.what());
    return kFailed;
  }
}
