# SPDX-License-Identifier: GPL-2.0-or-later
"""Make bdcs/store/dictionaries/segments.zdict, the zstd dictionary for evidence: `python dev/train_dictionary.py`.

Its content is the fixed text of records and the names of packages that many machines have; its statistics come from
invented segments. The result is kept in each store beside what was compressed with it, so a new one harms nothing.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path

from backports import zstd

TARGET = Path(__file__).parent.parent / "bdcs" / "store" / "dictionaries" / "segments.zdict"
HEADER_SIZE = 8 * 1024  # bytes left for the statistics
LEVEL = 9
PACKAGES = """
acct-group: audio cdrom cron dialout disk input kvm mail man messagebus nobody nullmail plugdev polkitd portage render
 root sgx sshd systemd-journal tape tty usb users utmp video wheel wireshark avahi cups docker geoclue gdm lp lpadmin
 nginx ntp pipewire postgres postfix qemu rtkit saned sddm scanner tss uucp pcap radvd libvirt
acct-user: cron dbus ftp geoclue gdm man messagebus nobody nginx ntp polkitd portage postfix postgres root rtkit sddm
 sshd systemd-coredump systemd-network systemd-oom systemd-resolve systemd-timesync tss avahi cups pipewire qemu radvd
 saned uucp pcap libvirt colord
app-admin: eselect logrotate metalog perl-cleaner sudo sysklogd syslog-ng system-config-printer sysstat keepassxc doas
 ansible salt pass rsyslog
app-alternatives: awk bc bzip2 cpio gpg gzip lex ninja sh tar yacc
app-arch: bzip2 cabextract cpio gzip libarchive lz4 lzop p7zip rpm2targz sharutils tar unrar unzip xz-utils zip zstd
 unadf lzip brotli snappy ncompress pigz 7zip
app-cdr: cdrtools dvd+rw-tools cdrdao brasero
app-containers: docker docker-cli docker-compose containerd podman runc crun buildah conmon lxc cri-tools
app-crypt: argon2 certbot gcr gnupg gpgme gpgmepp libb2 libmd libsecret mhash mit-krb5 p11-kit pinentry rhash seahorse
 tpm2-tools tpm2-tss efitools sbsigntools sequoia-sqv libsecret pesign
app-dicts: myspell-de myspell-en myspell-fr aspell-en
app-editors: emacs ghostwriter kate nano neovim vim vim-core vscode mousepad gvim
app-emulation: libvirt qemu spice-vdagent spice-protocol virt-manager virtualbox wine-staging wine-vanilla libguestfs
app-eselect: eselect-ctags eselect-emacs eselect-fontconfig eselect-iptables eselect-java eselect-lapack eselect-blas
 eselect-lua eselect-mpg123 eselect-pinentry eselect-php eselect-python eselect-ruby eselect-rust eselect-sh eselect-vi
 eselect-wine eselect-wxwidgets eselect-repository eselect-nodejs eselect-qtgreet
app-forensics: rkhunter chkrootkit
app-i18n: enca ibus fcitx opencc uchardet libchewing
app-laptop: laptop-mode-tools thinkfan tlp
app-misc: ca-certificates c_rehash editor-wrapper geoclue hello jq mc mime-types pax-utils screen tmux tracker
 localsearch tinysparql fastfetch neofetch ranger evtest figlet rlwrap
app-office: libreoffice libreoffice-bin libreoffice-l10n scribus dia gnucash calligra
app-portage: cpuid2cpuflags eix elt-patches euses flaggie gemato genlop gentoolkit getuto gentoopm layman portage-utils
 portpeek repoman smart-live-rebuild ufed gentwoo pfl
app-shells: bash bash-completion dash fish fzf gentoo-bashcomp push quoter zsh zsh-completions gentoo-zsh-completions
app-text: aspell asciidoc build-docbook-catalog cmark cracklib-words discount djvu docbook-dsssl-stylesheets
 docbook-sgml-dtd docbook-sgml-utils docbook-xml-dtd docbook-xsl-ns-stylesheets docbook-xsl-stylesheets docbook2X
 dos2unix doxygen ebook-tools enchant evince ghostscript-gpl highlight hunspell iso-codes libexttextcat libpaper
 libspectre libwpd libwpg libwps manpager mandoc mupdf mythes openjade opensp pandoc-bin poppler poppler-data po4a qpdf
 scdoc sgml-common texi2html tesseract texlive-core tree wgetpaste xapian xmlto yelp-tools zathura psutils t1lib
dev-build: autoconf autoconf-archive autoconf-wrapper automake automake-wrapper b2 bazel cmake gtk-doc-am just libtool
 make meson meson-format-array ninja qconf scons slibtool xmake gyp
dev-cpp: abseil-cpp atkmm cairomm eigen fmt glibmm gtest gtkmm libcutl libxmlpp muParser nlohmann_json pangomm
 pystring robin-hood-hashing sparsehash tbb yaml-cpp antlr-cpp benchmark cli11 range-v3 simdjson toml11 websocketpp
dev-db: lmdb mariadb mariadb-connector-c mysql postgresql redis sqlite unixODBC mysql-connector-c firebird sqlitebrowser
dev-debug: gdb ltrace strace valgrind bpftrace systemtap
dev-embedded: avrdude openocd libftdi
dev-go: go-md2man
dev-java: ant ant-core commons-logging icedtea-bin java-config javatoolkit openjdk openjdk-bin openjdk-jre-bin hamcrest
 junit
dev-lang: duktape elixir erlang ghc go lua luajit mujs nasm ocaml orc perl php python python-exec python-exec-conf r
 ruby rust rust-bin rust-common swig tcl tk typescript vala yasm spidermonkey execline zig jimtcl
dev-libs: appstream apr apr-util atf atk boehm-gc boost botan capnproto check cJSON crypto++ cyrus-sasl cxxopts
 dbus-glib dbus-cxx ding-libs double-conversion elfutils expat fribidi gjs glib glib-networking glibmm gmp
 gobject-introspection gobject-introspection-common granite hidapi hiredis hyphen icu icu-layoutex inih iniparser
 isa-l isl jansson jemalloc jsoncpp json-c json-glib jose keybinder kirigami-addons kpathsea libaio libassuan libatasmart
 libatomic_ops libayatana-appindicator libayatana-indicator libbsd libburn libbytesize libcdio libcdio-paranoia libclc
 libcloudproviders libconfig libdaemon libdazzle libdbusmenu libdbusmenu-qt libdnet libebml libedit libei liberror
 libev libevdev libevent libfaketime libffi libfmt libfido2 libgcrypt libgee libgit2 libgit2-glib libgpg-error libgusb
 libgweather libhandy libical libinih libinput libisoburn libisofs libixion libksba libltdl liblinear liborcus
 libmanette libmateweather libmaxminddb libmspack libnl libnatpmp libnfs libnotify libowfat libp11 libpcre libpcre2
 libpeas libpipeline libpthread-stubs libpwquality libqalculate libquotient libratbag libreoffice-voikko librelp libres
 libretls libsass libsecp256k1 libsigc++ libsigsegv libslirp libsodium libsolv libspnav libtasn1 libtomcrypt
 libtommath libtraceevent libtracefs libunibreak libunistring liburing libusb libuv libverto libvoikko libvterm libwacom
 libxdg-basedir libxdiff libxml2 libxmlb libxslt libyaml libyuv libzip lzo maloc md4c mimalloc mpc mpfr msgpack
 ncnn nettle newt npth nspr nss nss-pem oniguruma openpace openssl opensc openobex pegtl pkcs11-helper popt protobuf
 protobuf-c protozero psimd pthreadpool qcoro qtkeychain quazip radeontop rapidjson re2 rocm-device-libs rocr-runtime
 roct-thunk-interface serd simdutf sord spdlog sratom stb tinyxml2 tree-sitter totem-pl-parser tntnet uriparser
 userspace-rcu utfcpp vala-common volume_key wayland wayland-protocols weston wlroots xapian-bindings xerces-c xmlsec
 xxhash yajl zix zziplib wlr-protocols xalan-c
dev-lua: lpeg luv mpack lua-term luafilesystem luasocket
dev-ml: camlp4 findlib ocamlbuild
dev-perl: Archive-Zip Authen-SASL Business-ISBN CGI Canary-Stability Clone Crypt-OpenSSL-Guess DBD-SQLite DBI Date-Manip
 Devel-CheckLib Digest-HMAC Encode-Locale Error Exporter-Tiny ExtUtils-CChecker File-BaseDir File-DesktopEntry
 File-Listing File-MimeInfo File-Slurper GSSAPI HTML-Parser HTML-Tagset HTTP-Cookies HTTP-Date HTTP-Message
 HTTP-Negotiate IO-HTML IO-Socket-INET6 IO-Socket-SSL IO-Tty IPC-Run IPC-System-Simple JSON JSON-MaybeXS JSON-XS
 LWP-MediaTypes LWP-Protocol-https Locale-gettext Log-Log4perl MIME-Types MailTools Module-Build Moose Moo Mozilla-CA
 Net-DBus Net-HTTP Net-SMTP-SSL Net-SSLeay Parse-Yapp Pod-Parser SGMLSpm SUPER Socket6 Sub-Name Sub-Quote
 Sys-Virt TermReadKey Text-CSV Text-CharWidth Text-Unidecode Text-WrapI18N TimeDate Try-Tiny Types-Serialiser URI
 Unicode-EastAsianWidth Unicode-LineBreak WWW-RobotRules X11-Protocol XML-LibXML XML-NamespaceSupport XML-Parser
 XML-SAX XML-SAX-Base XML-Simple XML-Twig XML-Writer XML-XPath YAML-Tiny common-sense libintl-perl libwww-perl
 libxml-perl
dev-php: pecl-imagick composer
dev-python: aiohttp alabaster annotated-types anyio appdirs argcomplete asgiref asn1crypto asttokens async-timeout attrs
 autocommand babel backcall bcrypt beautifulsoup4 black bottleneck brotlicffi cachecontrol calver cairocffi certifi
 cffi chardet charset-normalizer click colorama contourpy cppy cryptography cssselect cycler cython dbus-python
 decorator defusedxml deprecated distlib distro dnspython docutils editables ensurepip-pip ensurepip-setuptools
 ensurepip-wheels evdev executing fasteners filelock flit-core flit-scm fonttools freezegun future gpep517 gst-python
 hatch-vcs hatch-fancy-pypi-readme hatchling html5lib httpcore httpx hypothesis idna imagesize importlib-metadata
 inflect iniconfig installer ipython jaraco-collections jaraco-context jaraco-functools jaraco-text jedi jeepney jinja2
 jinja2-time jsonpointer jsonschema jsonschema-specifications keyring kiwisolver lark lazy-object-proxy linkify-it-py
 lockfile lxml m2crypto mako markdown markdown-it-py markupsafe matplotlib matplotlib-inline mdit-py-plugins mdurl
 mdurl meson-python more-itertools msgpack multidict mypy-extensions nose numpy olefile orjson packaging pandas parso
 pathspec pbr pexpect pickleshare pikepdf pillow pip pkgconfig platformdirs pluggy ply poetry-core prompt-toolkit
 psutil ptyprocess pure-eval py pyatspi pycairo pycountry pycparser pycryptodome pydantic pydantic-core pyelftools
 pygments pygobject pyinotify pyopenssl pyparsing pyproject-hooks pyproject-metadata pyqt5 pyqt5-sip pyqt6 pyqt6-sip
 pyrsistent pyserial pysocks pytest pytest-asyncio pytest-xdist python-daemon python-dateutil python-pam python-xlib
 pytz pyudev pyusb pyxdg pyyaml qrcode referencing regex reportlab requests rich rpds-py ruamel-yaml scipy secretstorage
 semantic-version setuptools setuptools-rust setuptools-scm shiboken6 sip six smartypants smmap sniffio snakeoil
 snowballstemmer sortedcontainers soupsieve sphinx sphinx-rtd-theme sphinxcontrib-applehelp sphinxcontrib-devhelp
 sphinxcontrib-htmlhelp sphinxcontrib-jsmath sphinxcontrib-qthelp sphinxcontrib-serializinghtml sqlalchemy stack-data
 tenacity toml tomli tomli-w tomlkit tornado tox tqdm traitlets trove-classifiers truststore types-docutils
 typing-extensions typogrify tzlocal uc-micro-py ujson unidecode urllib3 uvloop vcrpy virtualenv wcwidth webencodings
 websockets wheel wrapt wxpython xcffib yarl zipp zstandard zope-interface pyside6 python-fontconfig
dev-qt: assistant designer linguist linguist-tools qdbus qdbusviewer qt-creator qt5compat qtbase qtcharts qtconcurrent
 qtconnectivity qtcore qtdatavis3d qtdbus qtdeclarative qtdiag qtgraphicaleffects qtgui qthelp qthttpserver
 qtimageformats qtlocation qtmultimedia qtnetwork qtnetworkauth qtopengl qtpaths qtpositioning qtprintsupport
 qtquick3d qtquickcontrols qtquickcontrols2 qtquicktimeline qtremoteobjects qtscript qtscxml qtsensors qtserialport
 qtshadertools qtspeech qtsql qtsvg qttest qttools qttranslations qtvirtualkeyboard qtwayland qtwaylandscanner
 qtwebchannel qtwebengine qtwebsockets qtwebview qtwidgets qtx11extras qtxml qtxmlpatterns
dev-ruby: asciidoctor bundler did_you_mean json kpeg minitest net-telnet power_assert racc rake rdoc rubygems test-unit
 xmlrpc rexml rbs
dev-scheme: guile
dev-tcltk: expect tix
dev-texlive: texlive-basic texlive-fontsrecommended texlive-latex texlive-latexextra texlive-latexrecommended
dev-util: android-tools bsdiff ccache clinfo cppunit desktop-file-utils debugedit dialog difftastic distcc dwarves
 gdbus-codegen gengetopt glade glslang gn gperf gtk-doc gtk-update-icon-cache indent intltool itstool kernelshark
 lcov nvidia-cuda-toolkit opencl-headers patchelf patchutils perf pkgconf pkgcheck pkgdev re2c ruff sccache
 scdoc spirv-headers spirv-llvm-translator spirv-tools strace sysprof sysprof-capture sysprof-common systemtap unifdef
 vulkan-headers vulkan-tools vulkan-utility-libraries wayland-scanner xdelta rocm-smi rocminfo hip
dev-vcs: bazaar cvs git git-lfs mercurial subversion tig stgit github-cli
games-action: prismlauncher supertuxkart minetest
games-util: gamemode steam-launcher game-device-udev-rules lutris
gnome-base: dconf dconf-editor gdm gnome gnome-control-center gnome-core-libs gnome-desktop gnome-keyring gnome-menus
 gnome-session gnome-settings-daemon gnome-shell gsettings-desktop-schemas gvfs libgnomekbd libgtop librsvg nautilus
gnome-extra: at-spi2-core evolution evolution-data-server gnome-calculator gnome-color-manager gnome-software
 gnome-system-monitor gnome-tweaks gucharmap polkit-gnome sushi tecla yelp yelp-xsl zenity nm-applet cinnamon
gui-apps: foot grim mako slurp swaybg swayidle swaylock waybar wl-clipboard wofi fuzzel kanshi
gui-libs: display-manager-init egl-gbm egl-wayland gtk gtk-layer-shell gtk4-layer-shell gtksourceview hyprutils
 libadwaita libdecor libhandy vte vte-common wlroots xdg-desktop-portal-hyprland xdg-desktop-portal-wlr
gui-wm: hyprland sway niri labwc
kde-apps: ark audiocd-kio baloo-widgets dolphin dolphin-plugins-git eog ffmpegthumbs filelight gwenview
 kaccounts-integration kalarm kamera kate kate-common kcalc kcharselect kcolorchooser kcron kde-apps-meta
 kdeconnect kdenlive kdesdk-thumbnailers kdialog keditbookmarks kfind kgpg khelpcenter kio-extras kleopatra kmail
 kompare konqueror konsole kontact korganizer kwalletmanager kwrite libkcddb libkcompactdisc libkdcraw libkexiv2 libksane
 okular print-manager signon-kwallet-extension spectacle svgpart thumbnailers yakuake akonadi
kde-frameworks: attica baloo bluez-qt breeze-icons extra-cmake-modules frameworkintegration kactivities
 kactivities-stats karchive kauth kbookmarks kcalendarcore kcmutils kcodecs kcolorscheme kcompletion kconfig
 kconfigwidgets kcontacts kcoreaddons kcrash kdbusaddons kdeclarative kded kdelibs4support kdesu kdnssd kdoctools
 kemoticons kfilemetadata kglobalaccel kguiaddons kholidays ki18n kiconthemes kidletime kimageformats kinit kio
 kirigami kitemmodels kitemviews kjobwidgets kjs knewstuff knotifications knotifyconfig kpackage kparts kpeople kpty
 kquickcharts krunner kservice kstatusnotifieritem ksvg ktexteditor ktexttemplate ktextwidgets kunitconversion kuserfeedback
 kwallet kwayland kwidgetsaddons kwindowsystem kxmlgui modemmanager-qt networkmanager-qt oxygen-icons plasma
 prison purpose qqc2-desktop-style solid sonnet syndication syntax-highlighting threadweaver kdav
kde-misc: kdeconnect kio-gdrive skanlite
kde-plasma: aurorae bluedevil breeze breeze-gtk breeze-grub breeze-plymouth discover drkonqi flatpak-kcm
 kactivitymanagerd kde-cli-tools kde-gtk-config kdecoration kdeplasma-addons kgamma kglobalacceld khotkeys kinfocenter
 kmenuedit kpipewire kscreen kscreenlocker ksshaskpass ksystemstats kwallet-pam kwayland kwayland-integration kwin
 kwin-x11 kwrited layer-shell-qt libkscreen libksysguard libplasma milou ocean-sound-theme oxygen oxygen-sounds
 plasma-activities plasma-activities-stats plasma-browser-integration plasma-desktop plasma-disks plasma-firewall
 plasma-integration plasma-login-sessions plasma-meta plasma-nm plasma-pa plasma-sdk plasma-systemmonitor plasma-thunderbolt
 plasma-vault plasma-workspace plasma-workspace-wallpapers plasma5support plymouth-kcm polkit-kde-agent powerdevil
 print-manager qqc2-breeze-style sddm-kcm systemsettings wacomtablet wayland-protocols-kde xdg-desktop-portal-kde xembed-sni-proxy
llvm-core: clang clang-common clang-linker-config clang-runtime clang-toolchain-symlinks lld lld-toolchain-symlinks llvm
 llvm-common llvm-toolchain-symlinks llvmgold libclc mlir polly
llvm-runtimes: clang-libcxx-config clang-rtlib-config clang-runtime clang-stdlib-config clang-unwindlib-config compiler-rt
 compiler-rt-sanitizers libcxx libcxxabi libunwind openmp
lxqt-base: liblxqt lxqt-panel lxqt-session
lxde-base: lxde-common lxappearance menu-cache
mail-client: mutt neomutt thunderbird thunderbird-bin claws-mail evolution
mail-filter: libmilter spamassassin procmail
mail-mta: exim msmtp nullmailer postfix sendmail opensmtpd
mate-base: mate mate-desktop mate-panel caja libmatekbd
media-fonts: anonymous-pro corefonts cantarell croscorefonts dejavu encodings fira-code font-misc-misc font-util
 fontawesome hack inter liberation-fonts noto noto-cjk noto-emoji open-sans roboto source-code-pro source-pro
 terminus-font twemoji ubuntu-font-family unifont urw-fonts dejavu nerdfonts alias font-bh-ttf font-adobe-100dpi
media-gfx: blender darktable exiv2 feh fontforge gimp gphoto2 graphite2 graphviz gwenview imagemagick inkscape imv iscan-data
 jbig2dec krita maim nomacs openvdb optipng potrace qrencode sane-backends sane-frontends scour scrot shotwell simple-scan xsane zbar
 assimp eog eom geeqie graphicsmagick libimagequant openscad
media-libs: a52dec adwaita-icon-theme alsa-lib alsa-oss alsa-topology-conf alsa-ucm-conf aom aribb24 audiofile babl
 bzip2 chafa chromaprint clutter cogl codec2 compface dav1d devil elementary embree exempi exiftool exiv2 faac faad2 fdk-aac
 ffmpegsource fontconfig freeglut freetype ftgl gd gegl gexiv2 giflib glew glfw glm glu grilo grilo-plugins gsound
 gst-plugins-bad gst-plugins-base gst-plugins-good gst-plugins-ugly gstreamer gstreamer-editing-services gupnp-dlna
 harfbuzz imath imlib2 ilmbase intel-mediasdk jasper jbigkit kvazaar ladspa-sdk lcms leptonica lensfun libaacs
 libaom libaribcaption libaribb24 libart_lgpl libass libavif libbdplus libbluray libbs2b libcaca libcanberra
 libcanberra-gtk3 libcddb libcdr libcue libde265 libdc1394 libdisplay-info libdv libdvbpsi libdvdcss libdvdnav libdvdread
 libebml libebur128 libepoxy libexif libfreehand libglvnd libgphoto2 libheif libid3tag libilbc libiptcdata libjpeg-turbo
 libjxl libkate liblc3 libldac libliftoff liblo liblqr libmad libmatroska libmediaart libmikmod libmms libmng libmodplug
 libmpdclient libmpeg2 libmspub libmtp libmypaint libnova libnsgif libnsbmp libogg libopenmpt libopenraw libopusenc
 libpagemaker libplacebo libpng libpulse libqxp libraqm libraw librist libsamplerate libsdl libsdl2 libsdl3 libshout
 libsidplay libsndfile libsoundio libspng libspiro libsrtp libtheora libtiger libv4l libva libva-intel-driver
 libvdpau libvisio libvisual libvmaf libvorbis libvpl libvpx libwebp libwmf libwnck libxmp libyuv libzmf live lilv lv2
 mesa mesa-amber minizip-ng mlt mpg123 mpg123-base mpeg123 musicbrainz netpbm nv-codec-headers nvidia-vaapi-driver
 oidn openal opencolorio opencore-amr opencv openexr openh264 openimageio openjpeg openjph openmpt opensubdiv openshadinglanguage
 opus opusfile osmesa osl phonon phonon-vlc portaudio portmidi portsmf ptex qhull raptor rav1e raqm rnnoise rubberband sbc
 sdl-image sdl-mixer sdl-ttf sdl2-compat sdl2-image sdl2-mixer sdl2-ttf shaderc shine sidplay snappy soundtouch soxr spandsp
 speex speexdsp stb suil svt-av1 taglib tiff tremor twolame vapoursynth vidstab vmaf vo-aacenc vulkan-layers vulkan-loader
 vvdec webrtc-audio-processing woff2 x264 x265 xine-lib xvid zimg zita-convolver zxing-cpp
media-plugins: alsa-plugins gst-plugins-a52dec gst-plugins-faad gst-plugins-gtk gst-plugins-jpeg gst-plugins-lame
 gst-plugins-libav gst-plugins-libpng gst-plugins-meta gst-plugins-mpg123 gst-plugins-opus gst-plugins-pulse
 gst-plugins-soup gst-plugins-taglib gst-plugins-v4l2 gst-plugins-vpx gst-plugins-x264 frei0r-plugins swh-plugins caps-plugins
media-sound: alsa-utils audacious audacity easyeffects cdparanoia deadbeef fluidsynth helvum lame mpc mpd ncmpcpp pavucontrol
 playerctl pulseaudio pulseaudio-daemon pulsemixer pamixer qpwgraph sox strawberry vorbis-tools wavpack wireplumber jack2
media-video: ffmpeg handbrake libva-utils mediainfo mkvtoolnix mplayer mpv obs-studio pipewire rtmpdump smplayer totem vlc wireplumber
 yt-dlp ffmpegthumbnailer guvcview kdenlive libvdpau-va-gl
net-analyzer: fail2ban iftop netcat nmap openbsd-netcat rrdtool tcpdump traceroute wireshark zabbix mtr nload
net-dialup: ppp mobile-broadband-provider-info usb_modeswitch
net-dns: avahi bind bind-tools c-ares dnsmasq dnssec-root libidn libidn2 openresolv unbound bind-tools
net-firewall: ebtables firewalld ipset iptables nftables ufw arptables
net-fs: cifs-utils nfs-utils samba sshfs autofs libnfs
net-ftp: filezilla ftpbase lftp vsftpd
net-im: telegram-desktop discord signal-desktop-bin pidgin element-desktop-bin slack
net-irc: hexchat irssi weechat
net-libs: adns bridge-utils farstream geocode-glib glib-networking gnome-online-accounts gnutls grpc gssdp gtk-vnc gupnp
 gupnp-av gupnp-igd http-parser ldns libasyncns libbpf libcloudproviders libgssglue libgrss libmbim libmicrohttpd libmnl libmnl
 libndp libnatpmp libnet libnetfilter_conntrack libnetfilter_cthelper libnetfilter_cttimeout libnetfilter_queue libnfnetlink
 libnftnl libnice libnma libnsl libnslirp libnghttp2 libpcap libproxy libpsl libqmi libqrtr-glib librsync libslirp libsoup libsrtp
 libssh libssh2 libtirpc libtorrent-rasterbar liboauth libupnp libvncserver llhttp mbedtls miniupnpc neon nghttp2 nghttp3 ngtcp2
 nodejs ortp pjproject rest rpcsvc-proto serf signond srt socket_wrapper spice-gtk uhttpmock usbredir webkit-gtk zeromq
 accounts-qml libaccounts-glib libaccounts-qt libsignon-glib signon-oauth2 libmateweather wpa_gui
net-misc: aria2 bridge-utils chrony curl dhcpcd dhcp geoipupdate iputils iputils-ping keychain modemmanager networkmanager
 nextcloud-client ntp openntpd openssh openvswitch proxychains rsync remmina rclone socat ssh-askpass stunnel tigervnc wget wget2
 whois x11-ssh-askpass youtube-dl yt-dlp zerotier
net-nds: openldap rpcbind
net-p2p: deluge qbittorrent transmission rtorrent syncthing
net-print: cups cups-filters cups-meta cups-pk-helper cups-browsed foomatic-db foomatic-db-engine foomatic-db-ppds gutenprint hplip
 libcupsfilters libppd splix
net-proxy: haproxy privoxy squid tor torsocks
net-vpn: i2pd networkmanager-openvpn openconnect openvpn tailscale tor wireguard-tools strongswan networkmanager-vpnc vpnc
net-voip: mumble twinkle
net-wireless: bluez bluez-tools blueman bluez-hcidump crda gnome-bluetooth hostapd iw iwd kismet rfkill wireless-regdb
 wireless-tools wpa_supplicant
perl-core: CPAN Compress-Raw-Bzip2 Compress-Raw-Zlib Digest-SHA Encode File-Temp Getopt-Long IO-Compress IO-Zlib JSON-PP
 Math-BigInt Module-CoreList Module-Metadata Scalar-List-Utils Storable Test-Harness Time-HiRes Time-Local version Socket
sci-libs: armadillo arpack cblas cfitsio fftw gdal geos gsl hdf5 lapack libqalculate netcdf openblas proj suitesparse
 symengine metis blas
sci-mathematics: gmp octave qalculate-gtk maxima z3 glpk
sci-electronics: kicad
sci-visualization: gnuplot
sec-keys: openpgp-keys-gentoo-release openpgp-keys-gentoo-auth openpgp-keys-gentoo-developers openpgp-keys-jiatan
sec-policy: selinux-base selinux-base-policy apparmor-profiles
sys-apps: acl accountsservice acpid apparmor attr baselayout bat bubblewrap busybox coreutils dbus dbus-broker debianutils diffutils
 dmidecode dtc ed eza ethtool exa fd file findutils flatpak fwupd fwupd-efi fwupdate gawk gentoo-functions gentoo-systemd-integration
 gptfdisk grep groff haveged hdparm help2man hwdata i2c-tools inxi iproute2 iucode_tool kbd keyutils kmod kmscon less lm-sensors
 locale-gen lshw lsb-release makedev man-db man-pages man-pages-posix mawk memtest86+ miscfiles mlocate net-tools nvme-cli
 openrc opentmpfiles pciutils pcsc-lite pkgcore plocate portage pv ripgrep rng-tools sandbox sed shadow smartmontools sysvinit
 systemd systemd-initctl systemd-tmpfiles systemd-utils sysvinit tcp-wrappers texinfo the_silver_searcher toybox tuned
 usb_modeswitch usbredir usbutils util-linux which xdg-dbus-proxy xdg-desktop-portal yarn openrc-navi policycoreutils udevil zram-init kexec-tools
sys-auth: consolekit elogind nss-mdns nss-myhostname pam_wrapper pambase passwdqc polkit polkit-pkla-compat polkit-qt rtkit seatd
 sssd libfprint
sys-block: gparted libblockdev parted thin-provisioning-tools zram-init open-iscsi fio
sys-boot: efibootmgr grub lilo mokutil os-prober plymouth refind syslinux systemd-boot shim elilo woeusb
sys-cluster: openmpi kubectl minikube
sys-devel: autoconf automake bc binutils binutils-config binutils-libs bison bpf-toolchain clang crossdev ct-ng dev86 distcc flex
 flex gcc gcc-config gdb gettext gnuconfig icecream lld llvm llvmgold libtool m4 make mold native-cctools patch prelink qconf reflex
sys-fabric: libibverbs rdma-core
sys-firmware: alsa-firmware edk2 edk2-bin intel-microcode ipxe seabios seabios-bin sgabios sof-firmware b43-firmware
sys-fs: autofs avfs bcache-tools btrfs-progs cryptsetup dmraid dosfstools duperemove e2fsprogs ecryptfs-utils erofs-utils eudev
 exfatprogs f2fs-tools fuse fuse-common fuse-exfat fuse-overlayfs inotify-tools jfsutils lvm2 lsscsi mdadm mtools mtpfs multipath-tools
 ncdu ntfs3g parted quota reiserfsprogs s3fs simple-mtpfs squashfs-tools squashfs-tools-ng sysfsutils udev udev-init-scripts udftools
 udisks unionfs-fuse xfsdump xfsprogs zfs zfs-kmod genfstab jmtpfs
sys-kernel: dkms dracut genkernel gentoo-kernel gentoo-kernel-bin gentoo-sources git-sources installkernel installkernel-gentoo
 installkernel-systemd-boot linux-docs linux-firmware linux-headers linux-next modprobed-db vanilla-kernel vanilla-sources
 xanmod-sources zen-sources pf-sources
sys-libs: binutils-libs cracklib db efivar error-standalone fts-standalone gdbm glibc gpm libapparmor libblockdev libcap libcap-ng
 libcxx libcxxabi libieee1284 libnvme libomp libosinfo libselinux libsemanage libsepol libseccomp libstdc++-v3 liburing libunwind
 libxcrypt mtdev musl ncurses ncurses-compat newt nss_wrapper obstack-standalone pam readline slang stfl talloc tdb tevent timezone-data uclibc-ng
 uid_wrapper zlib zlib-ng compiler-rt compiler-rt-sanitizers ldb
sys-power: acpi_call acpilight acpid cpupower hibernate-script iasl nut power-profiles-daemon powertop pm-utils suspend switcheroo-control
 thermald tlp upower
sys-process: at audit cronbase cronie criu dcron fcron htop btop iotop lsof nmon numactl parallel procps psmisc systemd-cron time tini bottom
virtual: acl awk blas cblas cdrtools cron cryptsetup dbus dev-manager dist-kernel editor eject ffmpeg fortran freedesktop-icon-theme
 glu imagemagick-tools jack jdk jpeg jre krb5 lapack libc libcrypt libelf libffi libiconv libintl libudev libusb linux-sources logger
 man manpager mailx mta mysql notification-daemon opencl opengl openssh os-headers package-manager pager perl-CPAN perl-CPAN-Meta
 perl-CPAN-Meta-Requirements perl-CPAN-Meta-YAML perl-Carp perl-Compress-Raw-Bzip2 perl-Compress-Raw-Zlib perl-DB_File perl-Data-Dumper
 perl-Digest perl-Digest-MD5 perl-Digest-SHA perl-Encode perl-Exporter perl-ExtUtils-CBuilder perl-ExtUtils-Install perl-ExtUtils-MakeMaker
 perl-ExtUtils-Manifest perl-ExtUtils-ParseXS perl-File-Path perl-File-Spec perl-File-Temp perl-Getopt-Long perl-HTTP-Tiny perl-IO
 perl-IO-Compress perl-IO-Socket-IP perl-IO-Zlib perl-IPC-Cmd perl-JSON-PP perl-Locale-Maketext-Simple perl-MIME-Base64 perl-Math-BigInt
 perl-Module-CoreList perl-Module-Load perl-Module-Load-Conditional perl-Module-Loaded perl-Module-Metadata perl-Params-Check
 perl-Parse-CPAN-Meta perl-Perl-OSType perl-Pod-Parser perl-Pod-Simple perl-Scalar-List-Utils perl-Socket perl-Storable perl-Sys-Syslog
 perl-Term-ANSIColor perl-Test-Harness perl-Test-Simple perl-Text-ParseWords perl-Text-Tabs+Wrap perl-Time-HiRes perl-Time-Local
 perl-Unicode-Collate perl-Unicode-Normalize perl-XSLoader perl-libnet perl-parent perl-podlators perl-threads perl-threads-shared
 perl-version pkgconfig podofo-build resolvconf rust secret-service service-manager shadow ssh tmpfiles ttf-fonts tree-sitter-grammar ubuntu-font
 udev wine w3m yacc zlib x11
www-apps: nextcloud wordpress
www-client: chromium chromium-common elinks epiphany firefox firefox-bin google-chrome links lynx microsoft-edge opera qutebrowser seamonkey vivaldi w3m
www-plugins: chrome-binary-plugins
www-servers: apache lighttpd nginx uwsgi
x11-apps: bdftopcf fonttosfnt iceauth igt-gpu-tools intel-gpu-tools luit mesa-progs mkfontscale rgb sessreg setxkbmap xauth xclock xcmsdb xcursorgen
 xdm xdpyinfo xdriinfo xev xeyes xf86dga xgamma xhost xinit xinput xkbcomp xkill xlsatoms xlsclients xmessage xmodmap xprop xrandr
 xrdb xrefresh xset xsetroot xvidtune xvinfo xwd xwininfo xwud xcalc mkcomposecache
x11-base: xcb-proto xorg-drivers xorg-proto xorg-server xorg-x11 xwayland xlibre-server
x11-drivers: nvidia-drivers xf86-input-evdev xf86-input-libinput xf86-input-synaptics xf86-input-wacom xf86-video-amdgpu xf86-video-ati
 xf86-video-dummy xf86-video-fbdev xf86-video-intel xf86-video-nouveau xf86-video-vesa
x11-libs: agg cairo colord-gtk gdk-pixbuf gdk-pixbuf-xlib gl2ps goffice gtk+ gtksourceview gtkmm libdrm libfakekey libfm libfm-extra libFS libICE
 libSM libX11 libXScrnSaver libXau libXaw libXaw3d libXcomposite libXcursor libXdamage libXdmcp libXext libXfixes libXfont2 libXft libXi libXinerama libXmu
 libXp libXpm libXpresent libXrandr libXrender libXres libXt libXtst libXv libXvMC libXxf86dga libXxf86vm libdrm libfontenc libgxim libnotify
 libpciaccess libtinynotify libvdpau libwnck libxcb libxcvt libxkbcommon libxkbfile libxklavier libxshmfence pango pixman qscintilla qtermwidget
 snorenotify startup-notification tslib vte wxGTK xcb-imdkit xcb-util xcb-util-cursor xcb-util-errors xcb-util-image xcb-util-keysyms
 xcb-util-renderutil xcb-util-wm xcb-util-xrm xtrans libva
x11-misc: accountsservice arandr cdm colord compton dmenu dunst gccmakedep imake j4-dmenu-desktop lightdm lightdm-gtk-greeter makedepend numlockx
 picom polybar read-edid redshift rofi sddm shared-mime-info slim spectrwm stalonetray touchegg unclutter util-macros wmctrl x11vnc xautolock xbindkeys
 xbitmaps xclip xdg-user-dirs xdg-user-dirs-gtk xdg-utils xdotool xkeyboard-config xscreensaver xsel xorg-cf-files x11-drm appmenu-gtk-module
x11-plugins: pidgin-libnotify wmcpuload
x11-terms: alacritty kitty rxvt-unicode st terminator xterm gnome-terminal xfce4-terminal
x11-themes: adwaita-icon-theme adwaita-qt breeze-icons fluxbox-styles gentoo-artwork gnome-backgrounds gnome-icon-theme gnome-themes-standard
 gtk-engines hicolor-icon-theme mate-icon-theme numix-gtk-theme oxygen-gtk papirus-icon-theme sound-theme-freedesktop vanilla-dmz-xcursors xcursor-themes
x11-wm: awesome bspwm fluxbox i3 mutter openbox icewm muffin xfwm4 metacity dwm twm windowmaker
xfce-base: exo garcon libxfce4ui libxfce4util thunar thunar-volman tumbler xfce4-appfinder xfce4-meta xfce4-panel xfce4-power-manager xfce4-session
 xfce4-settings xfconf xfdesktop libxfce4windowing
xfce-extra: xfce4-notifyd xfce4-pulseaudio-plugin xfce4-screenshooter xfce4-taskmanager xfce4-whiskermenu-plugin thunar-archive-plugin
"""


def main() -> None:
    """Write the dictionary, and say what it does for invented segments that it has not seen."""
    source = random.Random(20261122)
    packages = read_packages(PACKAGES)
    samples = [segment(source, packages) for _ in range(6000)]
    text = content(packages)
    size = len(text) + HEADER_SIZE
    dictionary = zstd.finalize_dict(zstd.ZstdDict(text, is_raw=True), samples, size, LEVEL)
    TARGET.write_bytes(dictionary.dict_content)
    fresh = [segment(source, packages) for _ in range(1000)]
    compressor = zstd.ZstdCompressor(LEVEL, zstd_dict=dictionary.as_digested_dict)
    records = sum(text.count(b'"seq"') for text in fresh)
    size = sum(len(compressor.compress(text, mode=compressor.FLUSH_FRAME)) for text in fresh)
    print(f"{TARGET.name}: {len(dictionary.dict_content)} bytes; {size / records:.1f} bytes a record")


def read_packages(text: str) -> list[tuple[str, str]]:
    """Return (category, name) of the lists above."""
    found, category = [], ""
    for word in text.split():
        if word.endswith(":"):
            category = word[:-1]
        else:
            found.append((category, word))
    return sorted(set(found))


def content(packages: list[tuple[str, str]]) -> bytes:
    """Return what the dictionary refers back to; what is used most stands last, where references are shortest."""
    names = "".join(f'"category":"{category}","name":"{name}","version":"' for category, name in packages)
    return names.encode() + "".join(frequent(seq) for seq in range(1, 4)).encode()


def frequent(seq: int) -> str:
    """Return the records that are seen most: an upgrade live and in backfill, a build of an older log."""
    text = ""
    for clock, observed in (("unknown", "backfill"), ("unsynchronized", "live"), ("synchronized", "live")):
        for repository in ("null", '"guru"', '"gentoo"'):
            text += (
                f'"repository":{repository},"install_type":null,"cause":"manual","replaces":null,"recorded_at":"2026-'
                f'","time_delta":1,"concurrency":null,"observed":"{observed}","clock":"{clock}"}},{{"seq":{seq},'
                f'"event":"failure","category":"dev-libs","repository":{repository},"install_type":"binary",'
                f'"cause":"build","replaces":null,"recorded_at":"2025-","time_delta":null,"concurrency":null,'
                f'"observed":"{observed}","clock":"{clock}"}},{{"seq":{seq},"event":"install","category":"sys-",'
                f'"repository":{repository},"install_type":"source","cause":null,"replaces":null,"recorded_at":"2026-'
                f'","time_delta":60,"concurrency":1.0,"observed":"{observed}","clock":"{clock}"}},{{"seq":{seq},'
                f'"event":"uninstall","category":"dev-","repository":{repository},"install_type":null,'
                f'"cause":"replaced","replaces":null,"recorded_at":"2026-","time_delta":2,"concurrency":1.0,'
                f'"observed":"{observed}","clock":"{clock}"}},{{"seq":{seq},"event":"install","category":"app-",'
                f'"repository":{repository},"install_type":"source","cause":null,"replaces":"1.'
                f'","recorded_at":"2026-","time_delta":33,"concurrency":1.0,"observed":"{observed}",'
                f'"clock":"{clock}"}}]}}'
            )
    return text


def segment(source: random.Random, packages: list[tuple[str, str]]) -> bytes:
    """Return the records of one invented segment, as they stand in its payload."""
    observed = source.choice(("live", "live", "backfill"))
    clock = (
        "unknown" if observed == "backfill" else source.choice(("synchronized",) * 9 + ("unsynchronized",))
    )
    seq, at = source.randrange(1, 20000), source.randrange(1500000000, 1850000000)
    records: list[dict[str, object]] = []
    for _ in range(source.choice((1, 1, 1, 2, 2, 3, 4, 8))):
        at += source.randrange(1, 3000)
        for record in merge(source, packages, at):
            records.append({"seq": seq + len(records), **record, "observed": observed, "clock": clock})
    return (json.dumps(records, separators=(",", ":"))[1:] + "}").encode()


def merge(source: random.Random, packages: list[tuple[str, str]], at: int) -> list[dict[str, object]]:
    """Return the one or two records of a merge."""
    category, name = source.choice(packages)
    new, old = version(source), version(source)
    repository = source.choice(("gentoo",) * 8 + ("guru", None))
    concurrency = source.choice((1.0, 1.0, 1.0, 2.0, round(source.uniform(1, 4), 2)))
    both = {"category": category, "name": name}
    kind = source.choice(("new", "upgrade", "upgrade", "upgrade", "rebuild", "remove", "failure"))
    gone = {
        "event": "uninstall",
        **both,
        "version": new if kind in ("rebuild", "remove") else old,
        "repository": repository,
        "install_type": None,
        "cause": "manual" if kind == "remove" else "replaced",
        "replaces": None,
        "recorded_at": moment(at),
        "time_delta": source.choice((1, 1, 2, 3, 4)),
        "concurrency": concurrency,
    }
    if kind == "remove":
        return [gone]
    came = {
        "event": "failure" if kind == "failure" else "install",
        **both,
        "version": new,
        "repository": repository,
        "install_type": source.choice(("source",) * 5 + ("binary",)),
        "cause": source.choice(("build", "build", "fetch", "interrupted", None))
        if kind == "failure"
        else None,
        "replaces": {"upgrade": old, "rebuild": new}.get(kind),
        "recorded_at": moment(at + 4),
        "time_delta": int(source.lognormvariate(4, 1.5)),
        "concurrency": concurrency,
    }
    return [gone, came] if kind in ("upgrade", "rebuild") else [came]


def moment(seconds: int) -> str:
    """Return the time as records write it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def version(source: random.Random) -> str:
    """Return a version such as packages have."""
    parts = [str(min(int(source.expovariate(0.15)), 130)) for _ in range(source.choice((2, 3, 3, 3, 4)))]
    return ".".join(parts) + source.choice(("", "", "", "-r1", "-r2", "_p20250101", "_rc1"))


if __name__ == "__main__":
    main()
