#include <thread>

#include "support/env.hpp"
#include "test_tensor_helpers.hpp"

namespace tinyphys::testing {

TEST_CASE("tensor: threads build, share, run and drop graphs") {
  const env::ScopedOverride as_recorded("TINYPHYS_FOLD", "0");
  const auto work = [] {
    const Tensor shared = Tensor::from({1.0, 2.0, 3.0});
    constexpr int kThreads = 4, kSteps = 2000;
    std::vector<Tensor> results(kThreads);
    std::vector<std::string> errors(kThreads);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t)
      threads.emplace_back([&, t] {
        for (int round = 0; round < 3; ++round) {
          Tensor x = shared;
          for (int i = 0; i < kSteps; ++i) x = x * 0.5 + shared;  // the same nodes in every thread
          results[static_cast<std::size_t>(t)] = x;
          errors[static_cast<std::size_t>(t)] = message([&] { x + Tensor::zeros({2}); });
          Tensor(x * 2.0).slice(0, 0, 2).realize();
        }
      });
    for (std::thread& t : threads) t.join();
    // x = x / 2 + s converges to 2 s, and halves are exact here.
    for (int t = 0; t < kThreads; ++t) {
      const auto i = static_cast<std::size_t>(t);
      CHECK(uop(results[i]) == uop(results[0]));
      CHECK(doubles(results[i]) == Doubles{2, 4, 6});
      CHECK(errors[i].find("[+] shapes [3] and [2] do not broadcast (test_tensor_threads.cpp:") == 0);
    }
  };
  work();  // the plans made here stay
  const std::int64_t before = live_nodes();
  work();
  CHECK(live_nodes() == before);
}

TEST_CASE("tensor: a million nodes are built and dropped without recursion") {
  const env::ScopedOverride as_recorded("TINYPHYS_FOLD", "0");
  const std::int64_t before = live_nodes();
  {
    const Tensor one = Tensor::from({1.0}, {});
    Tensor x = one;
    for (int i = 0; i < 1'000'000; ++i) x = x + one;
    CHECK(live_nodes() >= before + 1'000'000);
  }
  CHECK(live_nodes() == before);
}

}  // namespace tinyphys::testing
