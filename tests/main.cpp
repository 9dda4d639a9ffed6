// The main() of every test program. With a device that is not there it runs nothing and says why, as exit code 77. Else: doctest, then the number of test cases run, failed and skipped, and the names of
// those skipped. --summary=FILE writes that to FILE too, where tools/check adds them up.

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "support/env.hpp"
#include "tinyphys/devices.hpp"

// Asking for more memory than there is must be an exception here as elsewhere, not the end of the program.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }
#elif __has_feature(thread_sanitizer)
extern "C" const char* __tsan_default_options() { return "allocator_may_return_null=1"; }
#endif
#endif

namespace {

struct Counts {
  unsigned run = 0;
  unsigned failed = 0;
  std::vector<std::string> skipped;
};

Counts counts;

struct Counter : doctest::IReporter {
  explicit Counter(const doctest::ContextOptions&) {}
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats& stats) override {
    counts.run = stats.numTestCasesPassingFilters;
    counts.failed = stats.numTestCasesFailed;
  }
  void test_case_start(const doctest::TestCaseData&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  // Cases that a filter on the command line leaves out come here too; those were not meant to run.
  void test_case_skipped(const doctest::TestCaseData& data) override {
    if (data.m_skip) counts.skipped.emplace_back(data.m_name);
  }
};

REGISTER_LISTENER("counter", 1, Counter);

bool asked_for_opencl() { return tinyphys::env::device().starts_with("cl"); }

}  // namespace

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;
  for (const tinyphys::DeviceInfo& d :
       asked_for_opencl() ? tinyphys::devices() : std::vector<tinyphys::DeviceInfo>())
    if (d.name == "cl" && !d.available) {
      fmt::print("skipped: {}\n", d.description);
      return kSkipped;
    }
  // What is chosen between a loop and a jump is the same on all machines.
  if (!std::getenv("TINYPHYS_COST_MODEL")) tinyphys::env::set_override("TINYPHYS_COST_MODEL", "amd-zen4");
  // Tests count what is compiled, and keep off the user's cache.
  if (!std::getenv("TINYPHYS_CACHE")) tinyphys::env::set_override("TINYPHYS_CACHE", "0");
  std::string summary_file;
  constexpr std::string_view kSummary = "--summary=";
  for (int i = 1; i < argc; ++i) {
    std::string_view arg = argv[i];
    if (arg.starts_with(kSummary)) summary_file = arg.substr(kSummary.size());
  }

  doctest::Context context(argc, argv);
  int result = context.run();
  if (context.shouldExit()) return result;

  std::string summary =
      fmt::format("{} run, {} failed, {} skipped\n", counts.run, counts.failed, counts.skipped.size());
  for (const std::string& name : counts.skipped) summary += fmt::format("  skipped: {}\n", name);
  fmt::print("test cases: {}", summary);
  if (!summary_file.empty()) {
    std::ofstream file(summary_file);
    file << summary;
    if (!file.flush()) {
      fmt::print(stderr, "cannot write {}\n", summary_file);
      return 1;
    }
  }
  return result;
}
