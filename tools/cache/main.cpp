// tinyphys-cache: looks into the folder of compiled kernels, checks it, and empties it.
#include <array>
#include <charconv>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string_view>

#include <fmt/format.h>

#include "commands.hpp"
#include "support/env.hpp"

namespace tinyphys::cache_tool {
namespace {

constexpr const char* kHelp = R"(NAME
  tinyphys-cache - the compiled kernels that tinyphys keeps on disk

SYNOPSIS
  tinyphys-cache list [--sort COLUMN] [--reverse] [--json]
  tinyphys-cache show KEY [--json]
  tinyphys-cache stats [--json]
  tinyphys-cache verify [--repair] [--json]
  tinyphys-cache prune [--max-size SIZE] [--older-than AGE]
  tinyphys-cache clear
  tinyphys-cache path
  tinyphys-cache diff KEY KEY

DESCRIPTION
  A program that needs a kernel looks for its file here before it compiles, and writes one after. Files may be deleted at
  any time: what is missing is compiled again.

  list    a line for each kernel: its key, what it computes and where the program asked for it, its device, size, the time
          since it was made and since it was last used, and how often it was read. A file of another version of tinyphys,
          and one that is damaged, is listed as such.
  show    all there is in one file: the fields of its key, the graph, the source (LLVM IR where the backend is llvm), and
          the machine code where the device can take it apart.
  stats   numbers and bytes, in all and for each device.
  verify  reads every file and checks sizes, checksums and keys. Says which are wrong; --repair deletes those, and what
          processes left unfinished that were killed.
  prune   deletes what was used longest ago.
  clear   deletes all kernels. The folder stays, and so does what is no kernel.
  path    where the kernels are.
  diff    what two files differ in: the fields of the key first.

  KEY is the key that list shows, or the name of a kernel (k_...), or the start of one that belongs to one file alone.

OPTIONS
  --dir DIR          this folder, and not the one of the environment
  --sort COLUMN      kernel, device, size, made, used (the default) or hits; largest and latest first
  --reverse          the other way round
  --json             for programs: an object, or an array of them; times in seconds since 1970
  --repair           of verify: delete what is wrong
  --max-size SIZE    of prune: keep no more than SIZE bytes, or so many K, M, G or T of 1024
  --older-than AGE   of prune: delete what was not used for AGE: 90s, 15m, 12h, 30d
  --help             this text

ENVIRONMENT
  TINYPHYS_CACHE_DIR, XDG_CACHE_HOME, HOME   the folder: the first, else tinyphys in the second, else .cache/tinyphys in
                                             the third

EXIT STATUS
  0  done
  1  verify: something is wrong (and with --repair was); diff: they differ; show, diff: no file, or more than one, has
     this key
  2  the command line is not understood
  3  the folder or a file cannot be read or written, or the folder can be written by others
)";

double seconds_from(std::string_view text) {
  double n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  constexpr std::array<std::pair<char, double>, 4> kUnits{{{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}}};
  if (error == std::errc() && n >= 0 && end + 1 == text.data() + text.size())
    for (const auto& [unit, seconds] : kUnits)
      if (*end == unit) return n * seconds;
  throw Usage{fmt::format("--older-than {}: not a number of s, m, h or d", text)};
}

struct Command {
  std::string_view name;
  std::size_t keys;
  std::string_view options;  // with a blank around each
  int (*run)(KernelStore&, const Options&);
};
constexpr std::array<Command, 8> kCommands{{{"list", 0, " --sort --reverse --json ", list},
                                            {"show", 1, " --json ", show},
                                            {"stats", 0, " --json ", stats},
                                            {"verify", 0, " --repair --json ", verify},
                                            {"prune", 0, " --max-size --older-than ", prune},
                                            {"clear", 0, " ", clear},
                                            {"path", 0, " ", nullptr},
                                            {"diff", 2, " ", diff}}};

const Command& find_command(const std::string& name) {
  for (const Command& c : kCommands)
    if (c.name == name) return c;
  throw Usage{name.empty() ? "which command?" : fmt::format("there is no command {}", name)};
}

bool parse(int argc, char** argv, Options& o) {
  std::vector<std::string> used;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--help" || argument == "-h") return false;
    if (!argument.starts_with("-") || argument == "-") {
      if (o.command.empty())
        o.command = argument;
      else
        o.keys.emplace_back(argument);
      continue;
    }
    const std::size_t equals = argument.find('=');
    const std::string option(argument.substr(0, equals));
    const auto value = [&]() -> std::string {
      if (equals != std::string_view::npos) return std::string(argument.substr(equals + 1));
      if (++i == argc) throw Usage{option + " needs a value"};
      return argv[i];
    };
    const auto flag = [&] {
      if (equals != std::string_view::npos) throw Usage{option + " takes no value"};
      return true;
    };
    if (option == "--dir") {
      o.folder = value();
      if (o.folder.empty()) throw Usage{"--dir needs a folder"};
      continue;
    }
    used.push_back(option);
    if (option == "--sort") {
      o.sort = value();
    } else if (option == "--reverse") {
      o.reverse = flag();
    } else if (option == "--json") {
      o.json = flag();
    } else if (option == "--repair") {
      o.repair = flag();
    } else if (option == "--max-size") {
      const std::string text = value();
      o.max_bytes = env::bytes_from_text(text);
      if (!o.max_bytes) throw Usage{fmt::format("--max-size {}: not a number of bytes, K, M, G or T", text)};
    } else if (option == "--older-than") {
      o.older_than_s = seconds_from(value());
    } else {
      throw Usage{"unknown option " + option};
    }
  }
  const Command& command = find_command(o.command);
  for (const std::string& option : used)
    if (command.options.find(" " + option + " ") == std::string_view::npos)
      throw Usage{fmt::format("{} is no option of {}", option, command.name)};
  if (o.keys.size() != command.keys)
    throw Usage{fmt::format("{} takes {} of KEY, not {}", command.name, command.keys, o.keys.size())};
  if (o.command == "prune" && !o.max_bytes && !o.older_than_s)
    throw Usage{"prune needs --max-size or --older-than"};
  return true;
}

int run(const Options& given) {
  Options o = given;
  const Command& command = find_command(o.command);
  if (o.folder.empty()) o.folder = env::cache_dir();
  if (o.folder.empty()) {
    fmt::print(stderr, "tinyphys-cache: neither TINYPHYS_CACHE_DIR nor XDG_CACHE_HOME nor HOME is set\n");
    return kFailed;
  }
  if (!command.run) {
    fmt::print("{}\n", o.folder);
    return kDone;
  }
  std::error_code ignored;
  if (!std::filesystem::exists(o.folder, ignored) && o.keys.empty()) {
    // Nothing has been compiled yet: an empty cache, which no command of reading should make.
    if (o.json) {
      fmt::print("{}\n", o.command == "stats" ? "{\"files\": 0, \"bytes\": 0}" : "[]");
    } else {
      fmt::print(stderr, "tinyphys-cache: there is no folder {} yet\n", o.folder);
    }
    return kDone;
  }
  KernelStore::Refusal refusal;
  const auto store = KernelStore::open(o.folder, {.make = false}, refusal);
  if (!store) {
    fmt::print(stderr, "tinyphys-cache: {} {}\n", o.folder, refusal.why);
    return kFailed;
  }
  return command.run(*store, o);
}

}  // namespace
}  // namespace tinyphys::cache_tool

int main(int argc, char** argv) {
  using namespace tinyphys::cache_tool;
  try {
    Options options;
    int code = kDone;
    if (parse(argc, argv, options))
      code = run(options);
    else
      fmt::print("{}", kHelp);
    if (std::fflush(stdout) != 0) throw std::runtime_error("the output cannot be written");
    return code;
  } catch (const Usage& e) {
    fmt::print(stderr, "tinyphys-cache: {}\nTry --help.\n", e.message);
    return kUsage;
  } catch (const std::exception& e) {
    fmt::print(stderr, "tinyphys-cache: {}\n", e.what());
    return kFailed;
  }
}
