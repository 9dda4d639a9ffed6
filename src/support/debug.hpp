#pragma once

#include <string>
#include <string_view>

#include "support/env.hpp"

/// What the library tells on stderr. Levels of TINYPHYS_DEBUG, each with all below it:
///   1  one line per realize and per rewrite decision, and warnings
///   2  the plan and its kernels, with sizes and times
///   3  the physics reports (degree, proof, chosen, refused), and graphs before and after each pass
///   4  generated LLVM IR
///   5  assembly, and every rewrite that fired
namespace tinyphys {

inline bool debug_enabled(int level) { return env::debug_level() >= level; }

/// Prints `text` when the level is on, each of its lines behind the prefix `[tinyphys topic] `. The lines of one
/// call stay together. Where making the text costs something, ask debug_enabled first.
void debug_print(int level, std::string_view topic, std::string_view text);

/// Prints `[tinyphys warning] text` at any level, the first time that `key` is seen in this process.
void warn_once(std::string_view key, std::string_view text);

/// While one exists, what would go to stderr from the whole process is kept here instead, and warn_once forgets
/// the keys that it has seen, so that a test does not depend on those before it. For tests; they nest.
class DebugCapture {
 public:
  DebugCapture();
  ~DebugCapture();
  DebugCapture(const DebugCapture&) = delete;
  DebugCapture& operator=(const DebugCapture&) = delete;

  std::string text() const;

 private:
  friend void write_stderr(std::string_view, std::string_view);
  std::string text_;
  DebugCapture* outer_;
};

/// Writes `lines` at once. `status` is a last line without a newline, such as a progress bar: it is erased before
/// whatever is written next, by anybody, and is then written again below it.
void write_stderr(std::string_view lines, std::string_view status);

}  // namespace tinyphys
