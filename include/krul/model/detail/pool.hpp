#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace krul::detail {

/// Objects that are lent and come back: as many as were ever in use at once.
template <class T>
class Pool {
 public:
  class Lease {
   public:
    Lease(Pool& pool, std::unique_ptr<T> object) : pool_(&pool), object_(std::move(object)) {}
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() {
      const std::lock_guard lock(pool_->mutex_);
      pool_->free_.push_back(std::move(object_));
    }
    T& operator*() const noexcept { return *object_; }

   private:
    Pool* pool_;
    std::unique_ptr<T> object_;
  };

  [[nodiscard]] Lease borrow() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return {*this, std::make_unique<T>()};
    auto object = std::move(free_.back());
    free_.pop_back();
    return {*this, std::move(object)};
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<T>> free_;
};

}  // namespace krul::detail
