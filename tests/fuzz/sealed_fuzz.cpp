// Encrypted objects that somebody changed, with all that lies beside them to change them with: earlier versions, other
// objects, the same ones under other keys. Whatever is read is what was sealed there, from one version of it.
#include <algorithm>
#include <array>
#include <map>
#include <string>

#include "fuzz_target.hpp"
#include "krul/store/encrypted_store.hpp"
#include "krul/store/memory_store.hpp"
#include "support/encryption_key.hpp"

namespace krul::fuzz {
namespace {

constexpr std::size_t page_bytes = PageLayout::page, sealed_page_bytes = page_bytes + PageLayout::extra;

/// An object before and after.
struct SealedVersion {
  std::string key;
  Bytes plain, sealed;
  bool is_readable = true;  ///< with the keys that the store has
};

PageCipher sealed_cipher(std::uint8_t current) {
  return PageCipher::make({.current = test::key_of_all(current), .older = {test::key_of_all(2)}}).value();
}

/// What each input begins with: the first version of each object is in the store. The others are there to be put in.
const std::vector<SealedVersion>& sealed_versions() {
  static const std::vector<SealedVersion> versions = [] {
    const std::string folder = "0123456789abcdef0123456789abcdef/";
    std::vector<SealedVersion> made;
    const auto seal = [&](const std::string& name, std::size_t length, std::uint8_t encryption_key) {
      Bytes plain(length);
      for (std::size_t i = 0; i < length; ++i)
        plain[i] = static_cast<std::byte>(1 + (i * 7 + i / page_bytes + 31 * made.size()) % 255);  // never 0
      Bytes sealed = sealed_cipher(encryption_key).seal(folder + name, plain);
      made.push_back({folder + name, std::move(plain), std::move(sealed), encryption_key != 3});
    };
    seal("a", 2 * page_bytes + 700, 1);
    seal("b", 2 * page_bytes, 1);
    seal("c", 100, 1);
    seal("d", 0, 1);
    seal("a", 2 * page_bytes + 700, 1);  // as long, written again
    seal("a", page_bytes + 1, 1);
    seal("a", 2 * page_bytes + 700, 2);  // with an older key of the store's
    seal("b", 3 * page_bytes, 1);
    seal("b", 2 * page_bytes, 3);  // with a key that the store has not
    seal("d", 1, 1);
    return made;
  }();
  return versions;
}

using SealedObjects = std::map<std::string, Bytes>;  // by key

std::span<const std::byte> page_of(std::span<const std::byte> sealed, std::size_t index) {
  const std::size_t begin = std::min(index * sealed_page_bytes, sealed.size());
  return sealed.subspan(begin, std::min(sealed_page_bytes, sealed.size() - begin));
}

/// Changes one object as the input says.
void change_sealed(SealedObjects& objects, Input& input) {
  const std::size_t kind = input.byte() % 10;
  auto object = objects.begin();
  if (objects.empty()) return;
  std::advance(object, input.byte() % objects.size());
  Bytes& bytes = object->second;
  const auto any_version = [&]() -> const Bytes& {
    return sealed_versions()[input.byte() % sealed_versions().size()].sealed;
  };
  // A byte of a page, counted from its beginning or its end, as what matters lies there.
  const auto any_place = [&] {
    const std::size_t page = input.byte() % 4, within = input.two_bytes();
    const std::size_t begin = page * sealed_page_bytes;
    return std::min(within < 0x8000 ? begin + within : begin + sealed_page_bytes - (0x10000 - within), bytes.size());
  };
  const auto replace = [&](std::size_t at, std::size_t count, std::span<const std::byte> with) {
    const Bytes copy(with.begin(), with.end());  // which may lie in what is changed
    const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    const auto end = begin + static_cast<std::ptrdiff_t>(std::min(count, bytes.size() - at));
    bytes.insert(bytes.erase(begin, end), copy.begin(), copy.end());
  };
  const auto replace_page = [&](std::size_t index, std::span<const std::byte> with) {
    replace(std::min(index * sealed_page_bytes, bytes.size()), sealed_page_bytes, with);
  };
  switch (kind) {
    case 0:
      if (const std::size_t at = any_place(); at < bytes.size()) bytes[at] ^= static_cast<std::byte>(input.byte());
      break;
    case 1:
      bytes.resize(any_place());
      break;
    case 2: {
      const std::size_t at = any_place(), count = input.byte();
      const auto with = input.take(count);
      replace(at, with.size(), with);
      break;
    }
    case 3: {
      const std::size_t at = any_place(), count = input.byte();
      replace(at, 0, input.take(count));
      break;
    }
    case 4: {
      const std::size_t at = any_place();
      replace(at, input.two_bytes(), {});
      break;
    }
    case 5: {  // pages change places
      const std::size_t one = input.byte() % 4, other = input.byte() % 4;
      const auto first = page_of(bytes, one), second = page_of(bytes, other);
      if (first.size() == second.size() && one != other)
        std::swap_ranges(bytes.begin() + (first.data() - bytes.data()),
                         bytes.begin() + (first.data() - bytes.data()) + static_cast<std::ptrdiff_t>(first.size()),
                         bytes.begin() + (second.data() - bytes.data()));
      break;
    }
    case 6: {  // a page of any version in the place of any page, or after the last one
      const std::size_t index = input.byte() % 4;
      const auto& version = any_version();
      replace_page(index, page_of(version, input.byte() % 4));
      break;
    }
    case 7:
      replace_page(input.byte() % 4, {});
      break;
    case 8:
      bytes = any_version();
      break;
    default:
      objects.erase(object);
  }
}

/// The versions that what lies there might be read as: those of its key.
template <class Fits>
bool is_of_a_version(const std::string& key, Fits&& fits) {
  return std::ranges::any_of(sealed_versions(), [&](const SealedVersion& version) {
    return version.is_readable && version.key == key && fits(version.plain);
  });
}

/// One read of an object, into room that says what was written.
struct SealedRead {
  std::string key;
  std::uint64_t offset;
  Bytes to;
  bool has_ended = false;

  SealedRead(std::string of, std::uint64_t from, std::size_t count)
      : key(std::move(of)), offset(from), to(count, std::byte{0}) {}

  void check(const Status& status, const SealedObjects& objects) {
    require(!has_ended, "a read ends twice");
    has_ended = true;
    const auto is_here = [&](const Bytes& plain) {
      return offset <= plain.size() && to.size() <= plain.size() - offset &&
             std::equal(to.begin(), to.end(), plain.begin() + static_cast<std::ptrdiff_t>(offset));
    };
    if (accepted(status)) return require(to.empty() || is_of_a_version(key, is_here), "what is read was never there");
    // A whole version is read, whichever it is; of it at most what it has.
    const auto found = objects.find(key);
    for (const SealedVersion& version : sealed_versions())
      if (found != objects.end() && version.is_readable && version.key == key && version.sealed == found->second)
        require(offset > version.plain.size() || to.size() > version.plain.size() - offset, "a version is refused");
  }
};

std::vector<SealedRead> sealed_reads() {
  std::vector<SealedRead> reads;
  const std::string folder = "0123456789abcdef0123456789abcdef/";
  for (const char* name : {"a", "b", "c", "d"}) {
    const std::string key = folder + name;
    reads.emplace_back(key, 0, 0);
    reads.emplace_back(key, 10, 90);
    if (key.back() > 'b') continue;
    reads.emplace_back(key, page_bytes - 5, 10);
    reads.emplace_back(key, page_bytes, page_bytes);
    reads.emplace_back(key, 2 * page_bytes - 1, 2);
  }
  return reads;
}

using SealingStore = EncryptedStore<MemoryStore>;

void check_whole(SealingStore& store, const std::string& key, const SealedObjects& objects) {
  const auto found = objects.find(key);
  const auto size = store.size(key);
  if (accepted(size)) require(PageLayout::sealed_bytes(*size) == found->second.size(), "an object has another size");
  const auto loaded = store.load(key, 4 * page_bytes);
  if (accepted(loaded))
    return require(is_of_a_version(key, [&](const Bytes& plain) { return plain == *loaded; }),
                   "what is loaded was never there");
  require(found == objects.end() || !std::ranges::any_of(sealed_versions(),
                                                         [&](const SealedVersion& version) {
                                                           return version.is_readable && version.key == key &&
                                                                  version.sealed == found->second;
                                                         }),
          "a version is not loaded");
}

/// Nothing of a page that is refused is given away.
void check_pages(const std::string& key, std::span<const std::byte> sealed) {
  static const PageCipher cipher = sealed_cipher(1);
  for (std::size_t index = 0; index < 4; ++index) {
    const auto page = page_of(sealed, index);
    if (page.size() < PageLayout::extra) continue;
    Bytes to(page.size() - PageLayout::extra, std::byte{0});
    if (!accepted(cipher.open(key, index, page, to)))
      require(std::ranges::all_of(to, [](std::byte byte) { return byte == std::byte{0}; }), "a refused page is given");
  }
}

void read_all_sealed(SealingStore& store, const SealedObjects& objects, bool together) {
  std::vector<SealedRead> reads = sealed_reads();
  if (together) {
    std::vector<RangedRead> ranges;
    for (SealedRead& read : reads) ranges.push_back({read.key, read.offset, read.to});
    store.get_together(ranges, {}, [&](std::size_t i, const Status& status) { reads[i].check(status, objects); });
  } else {
    for (SealedRead& read : reads) read.check(store.get(read.key, read.offset, read.to), objects);
  }
  for (const SealedRead& read : reads) require(read.has_ended, "a read does not end");
}

void read_sealed(std::span<const std::byte> bytes) {
  static const SealedObjects intact = [] {
    SealedObjects objects;
    for (const SealedVersion& version : sealed_versions()) objects.try_emplace(version.key, version.sealed);
    return objects;
  }();
  static const EncryptionKeys keys{.current = test::key_of_all(1), .older = {test::key_of_all(2)}};
  Input input(bytes);
  const std::size_t choice = input.byte();
  const bool is_known = choice % 2 == 1, together = choice / 2 % 2 == 1;
  SealedObjects objects = intact;
  MemoryStore behind;
  for (const auto& [key, sealed] : objects) require(behind.put(key, sealed).has_value(), "no put");
  SealingStore store = SealingStore::make(behind, keys).value();
  if (is_known) read_all_sealed(store, objects, together);
  for (int changes = 0; changes < 16 && !input.is_empty(); ++changes) change_sealed(objects, input);
  for (const auto& [key, sealed] : intact) {
    const auto found = objects.find(key);
    if (found != objects.end() && found->second == sealed) continue;
    const Status status = found == objects.end() ? behind.erase(key) : behind.put(key, found->second);
    require(status.has_value(), "what lies behind cannot be changed");
    if (found != objects.end()) check_pages(key, found->second);
  }
  read_all_sealed(store, objects, together);
  for (const auto& [key, sealed] : intact) check_whole(store, key, objects);
}

std::vector<Bytes> sealed_seeds() {
  std::vector<Bytes> seeds;
  for (unsigned choice = 0; choice < 4; ++choice) {
    seeds.push_back(joined({choice}, ""));
    seeds.push_back(joined({choice, 0, 0, 1, 50, 0, 1}, ""));                    // a bit
    seeds.push_back(joined({choice, 0, 2, 0, 0xf8, 0xff, 1}, ""));               // a tag's bit
    seeds.push_back(joined({choice, 1, 0, 1, 0, 0}, ""));                        // cut off after a page
    seeds.push_back(joined({choice, 2, 0, 0, 32, 0, 8}, std::string(8, '\0')));  // a length
    seeds.push_back(joined({choice, 3, 1, 1, 0, 0, 3}, "new"));
    seeds.push_back(joined({choice, 4, 0, 0, 0, 0, 8, 0}, ""));
    seeds.push_back(joined({choice, 5, 0, 0, 1}, ""));     // two pages exchanged
    seeds.push_back(joined({choice, 6, 0, 1, 4, 1}, ""));  // a page of the version as long
    seeds.push_back(joined({choice, 6, 1, 2, 7, 2}, ""));  // one page more
    seeds.push_back(joined({choice, 7, 1, 1}, ""));
    for (unsigned version = 4; version < 10; ++version) seeds.push_back(joined({choice, 8, version % 3, version}, ""));
    seeds.push_back(joined({choice, 9, 0, 8, 1, 2}, ""));
  }
  return seeds;
}

}  // namespace

Target sealed_target() {
  return {"sealed", read_sealed, sealed_seeds};
}

}  // namespace krul::fuzz
