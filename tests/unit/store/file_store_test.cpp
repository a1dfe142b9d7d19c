#include "krul/store/file_store.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <optional>
#include <random>
#include <vector>

#include "store_test_support.hpp"
#include "support/temporary_directory.hpp"

using namespace krul;
using test::folder_a;
using test::folder_b;
using test::some_bytes;
namespace fs = std::filesystem;

namespace {

const std::string segment_key = folder_a + "/segment-1-00112233";

// Runs `body` in a child process; its result is the exit status. The child never returns into the tests.
template <class Body>
pid_t start_child(Body&& body) {
  std::fflush(nullptr);  // or the child might print it again
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(body());
  return child;
}

int status_of(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) REQUIRE(errno == EINTR);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// All names in a folder, krul's own among them.
std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

unsigned mode_of(const fs::path& path) {
  struct stat status {};
  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return status.st_mode & 07777;
}

struct Fixture {
  test::TemporaryDirectory directory;
  fs::path path = directory.path() / "store";
  FileStore store = FileStore::open(path).value();
};

}  // namespace

TEST_CASE("modes: nobody else may read, and the owner may, whatever the umask") {
  for (const mode_t mask : {mode_t{0}, mode_t{022}, mode_t{0777}}) {  // the last one takes from the owner, too
    CAPTURE(mask);
    const test::TemporaryDirectory directory;
    const fs::path path = directory.path() / "store";
    const mode_t before = ::umask(mask);
    auto store = FileStore::open(path);
    const auto put = store ? store->put(segment_key, some_bytes(10, 1)) : propagate(store);
    const auto lock = store ? store->lock(folder_a) : propagate(store);
    ::umask(before);
    REQUIRE(store);
    REQUIRE(put);
    REQUIRE(lock);
    CHECK(mode_of(path) == 0700);
    CHECK(mode_of(path / folder_a) == 0700);
    CHECK(mode_of(path / segment_key) == 0600);
    CHECK(mode_of(path / folder_a / ".lock") == 0600);
    CHECK(store->capabilities().durable);
    CHECK(!FileStore::open(path, {.durability = Durability::data}).value().capabilities().durable);
  }
}

TEST_CASE("directories that cannot be a store: one clear sentence") {
  const test::TemporaryDirectory directory;
  const auto refusal = [](const fs::path& path, FileStoreOptions options = {}) {
    const auto store = FileStore::open(path, options);
    REQUIRE(!store);
    return store.error();
  };
  std::ofstream(directory.path() / "file") << "x";
  CHECK(refusal(directory.path() / "file").message.find("not a directory") != std::string::npos);
  CHECK(refusal(directory.path() / "file" / "store").code == ErrorCode::io);
  CHECK(refusal(directory.path() / "none", {.create = false}).code == ErrorCode::not_found);
  CHECK(!fs::exists(directory.path() / "none"));
  CHECK(FileStore::open(directory.path() / "some" / "deep" / "store/"));
  CHECK(mode_of(directory.path() / "some" / "deep" / "store") == 0700);

  // To root every directory is writable, so this part runs as somebody else.
  fs::create_directory(directory.path() / "foreign");
  fs::permissions(directory.path(), fs::perms(0755));
  fs::permissions(directory.path() / "foreign", fs::perms(0555));
  CHECK(status_of(start_child([&] {
          if (::geteuid() == 0 && ::seteuid(65534) != 0) return 0;
          const auto inside = FileStore::open(directory.path() / "foreign" / "store");
          const auto itself = FileStore::open(directory.path() / "foreign");
          const auto says_so = [](const auto& store) {
            return !store && store.error().code == ErrorCode::io &&
                   store.error().message.find("Permission denied") != std::string::npos;
          };
          return says_so(inside) && says_so(itself) ? 0 : 1;
        })) == 0);
}

TEST_CASE("opened for reading: needs no right to write, makes nothing, and refuses to write") {
  const test::TemporaryDirectory directory;
  const fs::path path = directory.path() / "store";
  CHECK(FileStore::open(path, {.read_only = true}).error().code == ErrorCode::not_found);
  CHECK(!fs::exists(path));
  const auto bytes = some_bytes(10, 1);
  REQUIRE(FileStore::open(path).value().put(segment_key, bytes));
  fs::permissions(directory.path(), fs::perms(0755));
  fs::permissions(path / folder_a / "segment-1-00112233", fs::perms(0444));
  fs::permissions(path / folder_a, fs::perms(0555));
  fs::permissions(path, fs::perms(0555));
  CHECK(status_of(start_child([&] {
          if (::geteuid() == 0 && ::seteuid(65534) != 0) return 0;
          auto store = FileStore::open(path, {.read_only = true});
          if (!store) return 1;
          std::vector<std::byte> read(10);
          if (!store->get(segment_key, 0, read) || read != bytes || store->size(segment_key) != 10) return 2;
          if (store->list("") != std::vector{folder_a} || store->list(folder_a)->size() != 1) return 3;
          if (!store->dead_writes().empty()) return 4;
          const auto refused = [](const auto& result) {
            return !result && result.error().message.find("for reading only") != std::string::npos;
          };
          if (!refused(store->put(segment_key, bytes)) || !refused(store->erase(segment_key))) return 5;
          return refused(store->lock(folder_a)) ? 0 : 6;
        })) == 0);
  fs::permissions(path, fs::perms(0755));
  fs::permissions(path / folder_a, fs::perms(0755));
}

TEST_CASE("what writers left behind who died is listed, and what is being written is not") {
  Fixture fixture;
  REQUIRE(fixture.store.put(segment_key, some_bytes(10, 1)));
  CHECK(fixture.store.dead_writes().empty());
  fs::create_directory(fixture.path / folder_b);
  std::ofstream(fixture.path / folder_b / ".new-1-2") << "left behind";
  std::ofstream(fixture.path / folder_a / ".new-5-6") << "being written";
  const int alive = ::open((fixture.path / folder_a / ".new-5-6").c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(::flock(alive, LOCK_EX) == 0);
  CHECK(fixture.store.dead_writes() == std::vector<std::string>{folder_b + "/.new-1-2"});
  CHECK(fixture.store.dead_writes(folder_b) == std::vector<std::string>{".new-1-2"});
  CHECK(fixture.store.dead_writes(std::string(32, 'e')).empty());
  CHECK_THROWS_AS((void)fixture.store.dead_writes("no folder"), PreconditionError);
  ::close(alive);
  CHECK(fixture.store.dead_writes().size() == 2);
  { const auto lock = fixture.store.lock(folder_b).value(); }
  CHECK(names_in(fixture.path) == std::vector<std::string>{folder_a});
}

TEST_CASE("a limit on open files is told as that") {
  Fixture fixture;
  REQUIRE(fixture.store.put(segment_key, some_bytes(10, 1)));
  CHECK(status_of(start_child([&] {
          const rlimit limit{3, 3};
          if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return 1;
          std::vector<std::byte> read(10);
          const auto told = [](const Status& status) {
            return !status && status.error().code == ErrorCode::io &&
                   status.error().message.find("ulimit -n") != std::string::npos;
          };
          if (!told(fixture.store.get(segment_key, 0, read))) return 2;
          return told(fixture.store.put(segment_key, read)) ? 0 : 3;
        })) == 0);
}

TEST_CASE("a store whose directory vanishes says so") {
  Fixture fixture;
  REQUIRE(fixture.store.put(segment_key, some_bytes(10, 1)));
  fs::remove_all(fixture.path);
  const auto put = fixture.store.put(segment_key, some_bytes(10, 1));
  REQUIRE(!put);
  CHECK(put.error().code == ErrorCode::io);
  CHECK(put.error().message.find("removed") != std::string::npos);
  CHECK(fixture.store.size(segment_key).error().code == ErrorCode::not_found);
}

TEST_CASE("planted symbolic links and other strange things are not followed") {
  Fixture fixture;
  const fs::path outside = fixture.directory.path() / "outside";
  fs::create_directory(outside);
  std::ofstream(outside / "secret") << "secret";
  const auto bytes = some_bytes(6, 1);
  std::vector<std::byte> read(6);

  SUBCASE("a folder that is a link") {
    fs::create_directory_symlink(outside, fixture.path / folder_a);
    std::ofstream(outside / "segment-1-00112233") << "secret";
    CHECK(fixture.store.get(segment_key, 0, read).error().code == ErrorCode::io);
    CHECK(fixture.store.put(segment_key, bytes).error().code == ErrorCode::io);
    CHECK(fixture.store.erase(segment_key).error().code == ErrorCode::io);
    CHECK(fixture.store.lock(folder_a).error().code == ErrorCode::io);
    CHECK(fixture.store.list(folder_a).error().code == ErrorCode::io);
    CHECK(fixture.store.list("").value() == std::vector{folder_a});  // what it holds cannot be told
    CHECK(names_in(outside) == std::vector<std::string>{"secret", "segment-1-00112233"});
  }
  SUBCASE("an object that is a link is not read, and is replaced, not written through") {
    REQUIRE(fixture.store.put(folder_a + "/a", bytes));
    fs::create_symlink(outside / "secret", fixture.path / segment_key);
    CHECK(fixture.store.get(segment_key, 0, read).error().code == ErrorCode::io);
    CHECK(fixture.store.size(segment_key).error().code == ErrorCode::io);
    REQUIRE(fixture.store.put(segment_key, bytes));
    REQUIRE(fixture.store.get(segment_key, 0, read));
    CHECK(read == bytes);
    std::string secret;
    std::ifstream(outside / "secret") >> secret;
    CHECK(secret == "secret");
  }
  SUBCASE("a lock file that is a link") {
    fs::create_directory(fixture.path / folder_a);
    fs::create_symlink(outside / "new", fixture.path / folder_a / ".lock");
    CHECK(fixture.store.lock(folder_a).error().code == ErrorCode::io);
    CHECK(!fs::exists(outside / "new"));
  }
  SUBCASE("a link in the place of what a dead writer left goes, and what it leads to stays") {
    REQUIRE(fixture.store.put(segment_key, bytes));
    fs::create_symlink(outside / "secret", fixture.path / folder_a / ".new-1-2");
    fs::create_directory_symlink(outside, fixture.path / folder_a / ".new-3-4");
    CHECK(fixture.store.dead_writes(folder_a).size() == 2);
    { const auto lock = fixture.store.lock(folder_a).value(); }
    CHECK(names_in(fixture.path / folder_a) == std::vector<std::string>{".lock", "segment-1-00112233"});
    CHECK(names_in(outside) == std::vector<std::string>{"secret"});
  }
  SUBCASE("a directory or a pipe in an object's place") {
    fs::create_directories(fixture.path / segment_key);
    CHECK(fixture.store.get(segment_key, 0, read).error().code == ErrorCode::io);
    CHECK(fixture.store.put(segment_key, bytes).error().code == ErrorCode::io);
    CHECK(fixture.store.erase(segment_key).error().code == ErrorCode::io);
    REQUIRE(::mkfifo((fixture.path / folder_a / "pipe").c_str(), 0600) == 0);
    CHECK(fixture.store.get(folder_a + "/pipe", 0, read).error().code == ErrorCode::io);
  }
  SUBCASE("a file in a folder's place") {
    std::ofstream(fixture.path / folder_a) << "x";
    CHECK(fixture.store.put(segment_key, bytes).error().code == ErrorCode::io);
    CHECK(fixture.store.get(segment_key, 0, read).error().code == ErrorCode::io);
  }
}

TEST_CASE("what stands in an object's place is called what it is, and nothing waits for it") {
  Fixture fixture;
  REQUIRE(fixture.store.put(folder_a + "/a", some_bytes(6, 1)));
  const fs::path place = fixture.path / segment_key;
  std::string kind;
  SUBCASE("a pipe") {
    REQUIRE(::mkfifo(place.c_str(), 0600) == 0);
    kind = "a pipe";
  }
  SUBCASE("a socket") {
    const int number = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    REQUIRE(place.string().size() < sizeof address.sun_path);
    place.string().copy(address.sun_path, sizeof address.sun_path);
    REQUIRE(::bind(number, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    ::close(number);
    kind = "a socket";
  }
  SUBCASE("a directory") {
    fs::create_directory(place);
    kind = "a directory";
  }
  SUBCASE("a symbolic link") {
    fs::create_symlink("/nowhere", place);
    kind = "a symbolic link";
  }
  std::vector<std::byte> read(6);
  for (const Error& error :
       {fixture.store.get(segment_key, 0, read).error(), fixture.store.size(segment_key).error()}) {
    CHECK(error.code == ErrorCode::io);
    CHECK(error.message.find("it is " + kind) != std::string::npos);
  }
}

TEST_CASE("a folder that this user may not look into is listed, and reading it says why not") {
  Fixture fixture;
  REQUIRE(fixture.store.put(segment_key, some_bytes(10, 1)));
  REQUIRE(fixture.store.put(folder_b + "/a", some_bytes(10, 1)));
  fs::permissions(fixture.directory.path(), fs::perms(0755));
  fs::permissions(fixture.path, fs::perms(0755));
  fs::permissions(fixture.path / folder_b, fs::perms(0755));
  CHECK(status_of(start_child([&] {
          if (::geteuid() == 0 && ::seteuid(65534) != 0) return 0;
          if (::geteuid() != 65534) fs::permissions(fixture.path / folder_a, fs::perms(0));
          auto store = FileStore::open(fixture.path, {.read_only = true}).value();
          if (store.list("") != std::vector{folder_a, folder_b}) return 1;
          const auto says_so = [](const auto& result) {
            return !result && result.error().code == ErrorCode::io &&
                   result.error().message.find("Permission denied") != std::string::npos;
          };
          if (!says_so(store.list(folder_a)) || !says_so(store.foreign_names(folder_a))) return 2;
          return says_so(store.size(segment_key)) ? 0 : 3;
        })) == 0);
  fs::permissions(fixture.path / folder_a, fs::perms(0700));
}

TEST_CASE("names that the store does not write are never swept") {
  Fixture fixture;
  REQUIRE(fixture.store.put(segment_key, some_bytes(10, 1)));
  const std::vector<std::string> foreign = {".hidden",    ".new-",      ".new--1",   ".new-1", ".new-1-",
                                            ".new-1-2-3", ".new-draft", "Notes.txt", "a_b"};
  for (const std::string& name : foreign) std::ofstream(fixture.path / folder_a / name) << "mine";
  { const auto lock = fixture.store.lock(folder_a).value(); }
  CHECK(fixture.store.foreign_names(folder_a) == foreign);
  CHECK(fixture.store.dead_writes().empty());
  CHECK(names_in(fixture.path / folder_a).size() == foreign.size() + 2);
  CHECK(fixture.store.foreign_names(folder_b)->empty());
  CHECK_THROWS_AS((void)fixture.store.foreign_names("no folder"), PreconditionError);
}

TEST_CASE("a holder whose lock file was removed takes no other holder's along") {
  Fixture fixture;
  {
    auto first = std::make_optional(fixture.store.lock(folder_a).value());
    fs::remove(fixture.path / folder_a / ".lock");
    const auto second = fixture.store.lock(folder_a).value();
    first.reset();
    CHECK(fixture.store.lock(folder_a).error().code == ErrorCode::busy);
  }
  CHECK(names_in(fixture.path).empty());
}

TEST_CASE("a folder that a writer left empty is listed with its lock, and goes with it") {
  Fixture fixture;
  SUBCASE("it died before it wrote") {
    fs::create_directory(fixture.path / folder_b);
    SUBCASE("and before it had the lock") {}
    SUBCASE("with the lock") {
      std::ofstream(fixture.path / folder_b / ".lock");
    }
    CHECK(fixture.store.dead_writes() == std::vector<std::string>{folder_b + "/.lock"});
    CHECK(fixture.store.dead_writes(folder_b).empty());
    CHECK(fixture.store.list("").value().empty());
    { const auto lock = fixture.store.lock(folder_b).value(); }
    CHECK(names_in(fixture.path).empty());
  }
  SUBCASE("something else is in it") {
    fs::create_directories(fixture.path / folder_b / "Somebody else's");
    CHECK(fixture.store.dead_writes().empty());
  }
}

TEST_CASE("a folder without objects goes with its lock; what dead writers left behind goes when one is taken") {
  Fixture fixture;
  { const auto lock = fixture.store.lock(folder_a).value(); }
  CHECK(names_in(fixture.path).empty());

  REQUIRE(fixture.store.put(segment_key, some_bytes(10, 1)));
  std::ofstream(fixture.path / folder_a / ".new-1-2") << "left behind";
  fs::create_symlink("/nowhere", fixture.path / folder_a / ".new-3-4");
  std::ofstream(fixture.path / folder_a / ".new-5-6") << "being written";
  const int alive = ::open((fixture.path / folder_a / ".new-5-6").c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(::flock(alive, LOCK_EX) == 0);
  {
    const auto lock = fixture.store.lock(folder_a).value();
    CHECK(names_in(fixture.path / folder_a) == std::vector<std::string>{".lock", ".new-5-6", "segment-1-00112233"});
  }
  ::close(alive);
  CHECK(fixture.store.list(folder_a).value() == std::vector<std::string>{"segment-1-00112233"});
  {
    const auto lock = fixture.store.lock(folder_a).value();
    REQUIRE(fixture.store.erase(segment_key));
  }
  CHECK(names_in(fixture.path).empty());
}

TEST_CASE("two processes: the second one is told that the folder is busy, and a dead holder lets go") {
  Fixture fixture;
  int ready[2], finish[2];
  REQUIRE(::pipe(ready) == 0);
  REQUIRE(::pipe(finish) == 0);
  const pid_t child = start_child([&] {
    const auto lock = fixture.store.lock(folder_a);
    char byte = lock ? 'y' : 'n';
    if (::write(ready[1], &byte, 1) != 1) return 1;
    return ::read(finish[0], &byte, 1) == 1 ? 0 : 1;
  });
  char byte = 0;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  CHECK(byte == 'y');
  const auto refused = fixture.store.lock(folder_a);
  REQUIRE(!refused);
  CHECK(refused.error().code == ErrorCode::busy);
  CHECK(fixture.store.lock(folder_b));
  SUBCASE("it ends by itself") {
    REQUIRE(::write(finish[1], &byte, 1) == 1);
    CHECK(status_of(child) == 0);
  }
  SUBCASE("it is killed") {
    ::kill(child, SIGKILL);
    CHECK(status_of(child) == 128 + SIGKILL);
  }
  CHECK(fixture.store.lock(folder_a));
  for (const int end : {ready[0], ready[1], finish[0], finish[1]}) ::close(end);
}

TEST_CASE("processes that fight for a folder: at most one holds it, whatever vanishes in between") {
  Fixture fixture;
  const FileStore quick = FileStore::open(fixture.path, {.durability = Durability::none}).value();
  const fs::path mark = fixture.directory.path() / "mark";
  const auto fight = [&] {
    FileStore store = quick;
    for (int i = 0; i < 150; ++i) {
      const auto lock = store.lock(folder_a);
      if (!lock) {
        if (lock.error().code != ErrorCode::busy) return 2;
        continue;
      }
      const int file = ::open(mark.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0600);
      if (file < 0) return 3;
      ::close(file);
      ::unlink(mark.c_str());
      if (!store.put(segment_key, some_bytes(10, 1)) || !store.erase(segment_key)) return 4;
    }
    return 0;
  };
  const pid_t one = start_child(fight), two = start_child(fight), three = start_child(fight);
  CHECK(status_of(one) == 0);
  CHECK(status_of(two) == 0);
  CHECK(status_of(three) == 0);
  CHECK(names_in(fixture.path).empty());
}

TEST_CASE("a full medium: no_space, nothing left behind, the old object as it was") {
  Fixture fixture;
  const auto old = some_bytes(50'000, 1), larger = some_bytes(300'000, 2);
  REQUIRE(fixture.store.put(segment_key, old));
  const auto fails_cleanly = [&](FileStore store, const fs::path& path) {
    const auto status = store.put(segment_key, larger);
    if (status || status.error().code != ErrorCode::no_space) return 2;
    if (status.error().message.find("free space") == std::string::npos) return 3;
    if (names_in(path / folder_a) != std::vector<std::string>{"segment-1-00112233"}) return 4;
    std::vector<std::byte> read(old.size());
    if (!store.get(segment_key, 0, read) || read != old) return 5;
    return 0;
  };
  SUBCASE("a limit on the size of files") {
    CHECK(status_of(start_child([&] {
            ::signal(SIGXFSZ, SIG_IGN);
            const rlimit limit{100'000, 100'000};
            if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
            return fails_cleanly(fixture.store, fixture.path);
          })) == 0);
  }
  SUBCASE("a small file system, where one may be mounted") {
    const fs::path small = fixture.directory.path() / "small";
    fs::create_directory(small);
    if (::mount("krul", small.c_str(), "tmpfs", 0, "size=200k") == 0) {
      {
        FileStore store = FileStore::open(small).value();
        REQUIRE(store.put(segment_key, old));
        CHECK(fails_cleanly(store, small) == 0);
      }
      CHECK(::umount(small.c_str()) == 0);
    } else {
      MESSAGE("not allowed to mount: left out");
    }
  }
  SUBCASE("a file system that is read-only, where one may be mounted") {
    const fs::path small = fixture.directory.path() / "small";
    fs::create_directory(small);
    if (::mount("krul", small.c_str(), "tmpfs", MS_RDONLY, "") == 0) {
      const auto store = FileStore::open(small);
      REQUIRE(!store);
      CHECK(store.error().message.find("Read-only file system") != std::string::npos);
      CHECK(::umount(small.c_str()) == 0);
    }
  }
}

TEST_CASE("kill -9 at any moment of a put leaves the old object or the new one") {
  Fixture fixture;
  FileStore store = FileStore::open(fixture.path, {.durability = Durability::data}).value();
  const std::vector<std::byte> contents[] = {some_bytes(400'000, 1), some_bytes(300'000, 2)};
  REQUIRE(store.put(segment_key, contents[0]));
  std::mt19937 random(1);
  std::uniform_int_distribution<useconds_t> delay(0, 4000);
  for (int round = 0; round < 200; ++round) {
    const pid_t child = start_child([&] {
      for (std::size_t i = 0;; ++i)
        if (!store.put(segment_key, contents[i % 2])) return 1;
    });
    ::usleep(delay(random));
    ::kill(child, SIGKILL);
    REQUIRE(status_of(child) == 128 + SIGKILL);
    const auto size = store.size(segment_key);
    REQUIRE(size);
    std::vector<std::byte> read(*size);
    REQUIRE(store.get(segment_key, 0, read));
    REQUIRE((read == contents[0] || read == contents[1]));
    if (round % 10 == 0) {
      const auto lock = store.lock(folder_a);
      REQUIRE(lock);
      REQUIRE(names_in(fixture.path / folder_a) == std::vector<std::string>{".lock", "segment-1-00112233"});
    }
  }
}

TEST_CASE("a reader finishes what it can see: an erased object is gone, a truncated one is truncated") {
  Fixture fixture;
  REQUIRE(fixture.store.put(segment_key, some_bytes(1000, 1)));
  fs::resize_file(fixture.path / segment_key, 500);
  std::vector<std::byte> read(1000);
  CHECK(fixture.store.get(segment_key, 0, read).error().code == ErrorCode::truncated);
  CHECK(fixture.store.get(segment_key, 0, std::span(read).first(500)));
}
