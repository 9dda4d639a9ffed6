#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_set>

#include "support/env.hpp"

/// What the library tells on stderr. Levels of TINYPHYS_DEBUG, each with all below it:
///   1  one line per realize and per rewrite decision, and warnings          time, physics, graph, cache
///   2  the plan and its kernels, with sizes and times                       schedule, kernel, cache
///   3  the physics reports (degree, proof, chosen, refused), and graphs before and after each pass
///                                                                           physics, graph, rewrite
///   4  the text of each kernel                                              source
///   5  what its compiler makes of it, and every rewrite that fired          ir, asm, rewrite
/// A topic that is named there is told at all levels.
namespace tinyphys {

inline bool debug_enabled(int level, std::string_view topic) {
  return env::debug_level() >= level || env::debug_topic(topic);
}

/// Prints `text` when the level or the topic is on, each of its lines behind the prefix `[tinyphys topic] `. The lines
/// of one call stay together. Where making the text costs something, ask debug_enabled first.
void debug_print(int level, std::string_view topic, std::string_view text);

/// One form of what is dumped: an extension (dot, txt) and the contents.
struct DumpFile {
  std::string_view extension;
  std::string text;
};

/// Writes `0042-stage.EXTENSION` for each form that has text into the folder TINYPHYS_DEBUG_DIR; the numbers count the calls. Blanks
/// in the name of the stage become dashes. Where no file can be written, that is told once and nothing fails. Where
/// making the text costs something, ask env::dumping() first.
void dump(std::string_view stage, std::initializer_list<DumpFile> files);

/// The rewrites that fire on this thread while one exists and something is dumped: a line each. They nest: an inner one
/// leaves its lines to the outer one when it goes.
class FiredRules {
 public:
  FiredRules();
  ~FiredRules();
  FiredRules(const FiredRules&) = delete;
  FiredRules& operator=(const FiredRules&) = delete;

  /// Counts one more, and says whether its line is wanted: the first 10,000 are, where somebody collects them here.
  static bool count();
  static void keep(const std::string& line);

  /// The lines, each with its newline, and how many more there were. Empty when none fired.
  std::string text() const;

 private:
  std::string lines_;
  long fired_ = 0;
  FiredRules* outer_ = nullptr;
  bool on_;
};

/// Prints `[tinyphys warning] text` at any level, the first time that `key` is seen in this process.
void warn_once(std::string_view key, std::string_view text);

/// Writes whole lines to stderr, above the status line if there is one.
void write_stderr(std::string_view lines);

/// Keeps `text` (no newline in it) as the last line of the terminal: erased before anything that is written
/// through this header, drawn again below it. Empty text erases it for good.
void set_status_line(std::string_view text);

/// While one exists, what this header would send to stderr is kept here instead, and warn_once has seen no key, so
/// that a test does not depend on those before it. For tests; they nest.
class DebugCapture {
 public:
  DebugCapture();
  ~DebugCapture();
  DebugCapture(const DebugCapture&) = delete;
  DebugCapture& operator=(const DebugCapture&) = delete;

  std::string text() const;

 private:
  std::string text_;
  std::unordered_set<std::string> outer_seen_;
  std::string* outer_;
};

}  // namespace tinyphys
