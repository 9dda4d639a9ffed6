#include "rewrite/nonnegative.hpp"

#include <algorithm>
#include <vector>

#include "uop/graph.hpp"

namespace tinyphys {
namespace {

constexpr std::size_t kMaxNodes = 256;  // of one proof

// The factors of a product that do not pair up to squares. False when there are too many.
bool unpaired_factors(const Node* product, std::vector<const Node*>& out) {
  std::vector<const Node*> todo{product}, factors;
  while (!todo.empty()) {
    const Node* n = todo.back();
    todo.pop_back();
    if (n->op == Op::MUL) {
      todo.push_back(n->src(0));
      todo.push_back(n->src(1));
    } else {
      factors.push_back(n);
    }
    if (todo.size() + factors.size() > kMaxNodes) return false;
  }
  std::sort(factors.begin(), factors.end());
  for (std::size_t i = 0; i < factors.size();) {
    if (i + 1 < factors.size() && factors[i] == factors[i + 1]) {
      i += 2;
    } else {
      out.push_back(factors[i++]);
    }
  }
  return true;
}

}  // namespace

bool provably_nonnegative(const Node* root) {
  // All nodes of the list have to be non-negative: each is checked off or replaced by what it rests on.
  std::vector<const Node*> todo{root};
  NodeMap<char> seen;
  while (!todo.empty()) {
    const Node* n = todo.back();
    todo.pop_back();
    if (!seen.insert(n, 1)) continue;
    if (seen.size() > kMaxNodes) return false;
    switch (n->op) {
      case Op::CONST:
        if (!is_structural_const(n) || const_double(n) < 0) return false;
        break;
      case Op::IOTA:
      case Op::ABS:
      case Op::EXP:
      case Op::COSH:
      case Op::SQRT: break;
      case Op::POWI:
        if (n->arg(0) % 2 != 0) todo.push_back(n->src(0));
        break;
      case Op::MUL:
        // An int64 square may wrap below 0.
        if (!is_float(n->dtype) || !unpaired_factors(n, todo)) return false;
        break;
      case Op::FMA:
        if (n->src(0) != n->src(1)) {
          todo.push_back(n->src(0));
          todo.push_back(n->src(1));
        }
        todo.push_back(n->src(2));
        break;
      case Op::WHERE:
        todo.push_back(n->src(1));
        todo.push_back(n->src(2));
        break;
      case Op::PAD:
        if (!(is_float(n->dtype) ? from_bits(n->arg(0)) >= 0 : n->arg(0) >= 0)) return false;
        todo.push_back(n->src(0));
        break;
      case Op::CAST:
        if (n->src(0)->dtype != DType::kBool) todo.push_back(n->src(0));
        break;
      case Op::ADD:
      case Op::DIV:
      case Op::MIN:
      case Op::MAX:
      case Op::RESHAPE:
      case Op::PERMUTE:
      case Op::EXPAND:
      case Op::SLICE:
      case Op::ROLL:
      case Op::CAT:
      case Op::REDUCE:  // sum, product, maximum and minimum alike
      case Op::CUMSUM:
      case Op::MATMUL:
        for (const Node* s : n->src()) todo.push_back(s);
        break;
      case Op::GATHER: todo.push_back(n->src(0)); break;
      default: return false;
    }
  }
  return true;
}

}  // namespace tinyphys
