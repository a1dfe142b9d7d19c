#pragma once

#include <cstddef>
#include <list>
#include <unordered_map>

namespace krul::simulate {

/// Saved conversations in memory of a fixed size; the least recently saved one goes first.
class HostMemory {
 public:
  explicit HostMemory(double bytes) : room_(bytes) {}

  [[nodiscard]] bool contains(std::size_t conversation) const { return places_.contains(conversation); }

  void erase(std::size_t conversation) {
    const auto place = places_.find(conversation);
    if (place == places_.end()) return;
    room_ += place->second->bytes;
    kept_.erase(place->second);
    places_.erase(place);
  }

  /// Replaces what was kept of the conversation; keeps nothing of one that is larger than all the memory.
  /// @post what is kept is never larger than the memory
  void insert(std::size_t conversation, double bytes) {
    erase(conversation);
    while (bytes > room_ && !kept_.empty()) erase(kept_.front().conversation);
    if (bytes > room_) return;
    room_ -= bytes;
    places_[conversation] = kept_.insert(kept_.end(), {conversation, bytes});
  }

 private:
  struct Kept {
    std::size_t conversation;
    double bytes;
  };
  double room_;
  std::list<Kept> kept_;  // least recently saved first
  std::unordered_map<std::size_t, std::list<Kept>::iterator> places_;
};

}  // namespace krul::simulate
