#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <span>
#include <type_traits>

namespace tinyphys {

/// A vector that holds up to N elements in itself: shapes, axes, operands.
template <class T, std::size_t N> class SmallVector {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);
  static_assert(N > 0 && alignof(T) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);

 public:
  using value_type = T;
  using iterator = T*;
  using const_iterator = const T*;

  SmallVector() : data_(inline_data()) {}
  explicit SmallVector(std::size_t size, T value = T{}) : SmallVector() { resize(size, value); }
  SmallVector(std::initializer_list<T> list) : SmallVector(std::span<const T>(list.begin(), list.size())) {}
  explicit SmallVector(std::span<const T> other) : SmallVector() { append(other); }
  template <class It>
  requires(!std::is_integral_v<It>) SmallVector(It first, It last) : SmallVector() {
    for (; first != last; ++first) push_back(*first);
  }
  SmallVector(const SmallVector& other) : SmallVector() { append(other); }
  SmallVector(SmallVector&& other) noexcept : SmallVector() { take(other); }
  SmallVector& operator=(const SmallVector& other) {
    if (this != &other) {
      size_ = 0;
      append(other);
    }
    return *this;
  }
  SmallVector& operator=(SmallVector&& other) noexcept {
    if (this != &other) {
      release();
      take(other);
    }
    return *this;
  }
  ~SmallVector() { release(); }

  std::size_t size() const { return size_; }
  std::size_t capacity() const { return capacity_; }
  bool empty() const { return size_ == 0; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  auto rbegin() { return std::make_reverse_iterator(end()); }
  auto rend() { return std::make_reverse_iterator(begin()); }
  auto rbegin() const { return std::make_reverse_iterator(end()); }
  auto rend() const { return std::make_reverse_iterator(begin()); }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  T& front() { return data_[0]; }
  const T& front() const { return data_[0]; }
  T& back() { return data_[size_ - 1]; }
  const T& back() const { return data_[size_ - 1]; }

  operator std::span<const T>() const { return {data_, size_}; }
  operator std::span<T>() { return {data_, size_}; }

  /// By value: the element may be one of this vector's own, which growing moves.
  void push_back(T value) {
    if (size_ == capacity_) grow(size_ + 1);
    data_[size_++] = value;
  }
  void pop_back() { --size_; }
  void clear() { size_ = 0; }
  void reserve(std::size_t count) {
    if (count > capacity_) grow(count);
  }
  void resize(std::size_t count, T value = T{}) {
    reserve(count);
    if (count > size_) std::fill(data_ + size_, data_ + count, value);
    size_ = count;
  }
  /// `other` may not be part of this vector.
  void append(std::span<const T> other) {
    reserve(size_ + other.size());
    std::copy(other.begin(), other.end(), data_ + size_);
    size_ += other.size();
  }
  iterator insert(const_iterator where, T value) {
    std::size_t at = where - data_;
    push_back(value);
    std::rotate(data_ + at, data_ + size_ - 1, data_ + size_);
    return data_ + at;
  }
  /// The elements may not be part of this vector.
  template <class It> iterator insert(const_iterator where, It first, It last) {
    const std::size_t at = where - data_, before = size_;
    for (; first != last; ++first) push_back(*first);
    std::rotate(data_ + at, data_ + before, data_ + size_);
    return data_ + at;
  }
  iterator insert(const_iterator where, std::initializer_list<T> list) {
    return insert(where, list.begin(), list.end());
  }
  template <class It>
  requires(!std::is_integral_v<It>) void assign(It first, It last) {
    size_ = 0;
    for (; first != last; ++first) push_back(*first);
  }
  void assign(std::size_t count, T value) {
    size_ = 0;
    resize(count, value);
  }
  iterator erase(const_iterator where) {
    std::size_t at = where - data_;
    std::copy(data_ + at + 1, data_ + size_, data_ + at);
    --size_;
    return data_ + at;
  }

  friend bool operator==(const SmallVector& a, const SmallVector& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  T* inline_data() { return reinterpret_cast<T*>(storage_); }
  bool is_inline() const { return data_ == reinterpret_cast<const T*>(storage_); }

  void release() {
    if (!is_inline()) ::operator delete(data_);
    data_ = inline_data();
    size_ = 0;
    capacity_ = N;
  }

  /// Takes the contents of `other` into this empty inline vector.
  void take(SmallVector& other) {
    if (other.is_inline()) {
      std::copy(other.begin(), other.end(), data_);
    } else {
      data_ = other.data_;
      capacity_ = other.capacity_;
      other.data_ = other.inline_data();
      other.capacity_ = N;
    }
    size_ = other.size_;
    other.size_ = 0;
  }

  void grow(std::size_t at_least) {
    std::size_t capacity = std::max(at_least, 2 * capacity_);
    T* moved = static_cast<T*>(::operator new(capacity * sizeof(T)));
    std::copy(begin(), end(), moved);
    if (!is_inline()) ::operator delete(data_);
    data_ = moved;
    capacity_ = capacity;
  }

  T* data_;
  std::size_t size_ = 0;
  std::size_t capacity_ = N;
  alignas(T) std::byte storage_[N * sizeof(T)];
};

}  // namespace tinyphys
